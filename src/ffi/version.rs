//! Version.
//!
//! WHARF_VERSION_NUMBER is the version of the header that you compiled against, wharf_version() that of the library
//! that you run with. Within one major version a newer library serves programs that were made for an older one (from
//! 1.0.0 on; before that, within one minor version).

use std::ffi::c_char;

/// Decimal digits of one part of the version.
const fn number(text: &str) -> u32 {
    let digits = text.as_bytes();
    let (mut value, mut place) = (0, 0);
    while place < digits.len() {
        value = value * 10 + (digits[place] - b'0') as u32;
        place += 1;
    }
    value
}

const NUMBER: u32 = number(env!("CARGO_PKG_VERSION_MAJOR")) * 1_000_000
    + number(env!("CARGO_PKG_VERSION_MINOR")) * 1_000
    + number(env!("CARGO_PKG_VERSION_PATCH"));

/// The version of the library that runs: major * 1000000 + minor * 1000 + patch. Compare it with WHARF_VERSION_NUMBER.
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_version() -> u32 {
    NUMBER
}

/// The same as text, as in "1.2.3". The text is static: never to be freed.
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_version_text() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
