//! Any text as an address: nothing panics, what is printed is read back as the same, and what is refused is refused in one
//! short sentence.

#![no_main]

use std::fmt::Display;

use libfuzzer_sys::fuzz_target;
use wharf::port::{Address, AddressError, Target};

fn check<T: Display + PartialEq + std::fmt::Debug>(text: &str, parse: fn(&str) -> Result<T, AddressError>) {
    match parse(text) {
        Ok(address) => {
            let printed = address.to_string();
            assert_eq!(parse(&printed).as_ref(), Ok(&address), "{text:?} is printed as {printed:?}");
            assert_eq!(address.to_string(), printed);
        }
        Err(error) => {
            assert!(
                error.message.starts_with("address ") && error.message.len() < 300 + 16 * text.len(),
                "{}",
                error.message
            );
            assert!(!error.message.contains('\n') && !error.message.contains('\0'), "{:?}", error.message);
        }
    }
}

fuzz_target!(|text: &str| {
    check(text, Address::parse_listen);
    check(text, Address::parse_local);
    check(text, Target::parse);
});
