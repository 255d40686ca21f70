//! Any bytes as the structs of the C ABI: nothing crashes, no byte behind a struct_size is touched (AddressSanitizer
//! watches it), every error text is terminated, and what wharf_engine_footprint tells is what an engine sets aside.
//!
//! Input: one byte that chooses the call, one for the size of wharf_error, then the struct, then the address.

#![no_main]

use std::alloc::{Layout, alloc, dealloc};
use std::ffi::{CString, c_void};
use std::ptr::{null, null_mut};

use libfuzzer_sys::fuzz_target;
use wharf::ffi::*;
use wharf::status::*;

/// No engine that sets more aside than this is made.
const MOST_BYTES: u64 = 8 << 20;
const MOST_THREADS: u32 = 2;

/// Memory of exactly so many bytes, so that a touch behind it is noticed.
struct Exact {
    place: *mut u8,
    layout: Layout,
}

impl Exact {
    /// What a C program would pass: the first bytes are `struct_size`, and there are as many as it says, if that can be.
    fn of(data: &[u8], struct_size: usize) -> Exact {
        let len = struct_size.clamp(size_of::<usize>(), 4096);
        let layout = Layout::from_size_align(len, 8).unwrap();
        // SAFETY: the layout has a size; the copies stay within it.
        let place = unsafe {
            let place = alloc(layout);
            place.write_bytes(0, len);
            place.copy_from_nonoverlapping(data.as_ptr(), data.len().min(len));
            place.cast::<usize>().write_unaligned(struct_size);
            place
        };
        Exact { place, layout }
    }

    /// Writes a field, if the struct is long enough to have it.
    fn set<T>(&mut self, offset: usize, value: T) {
        if offset + size_of::<T>() <= self.layout.size() {
            // SAFETY: within the memory.
            unsafe { self.place.add(offset).cast::<T>().write_unaligned(value) };
        }
    }
}

impl Drop for Exact {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.place, self.layout) };
    }
}

/// A wharf_error of some size, full of what must be overwritten.
struct Told(Exact);

impl Told {
    fn new(choice: u8) -> Told {
        let ours = size_of::<wharf_error>();
        let size = [ours, 0, 8, ours - 8, ours + 64, usize::MAX, ours, ours][usize::from(choice % 8)];
        let mut told = Exact::of(&[0xAA; 4096], size);
        if size >= ours && size <= 4096 {
            told.set(size_of::<usize>(), 12345_i32);
        }
        Told(told)
    }

    fn place(&self) -> *mut wharf_error {
        self.0.place.cast()
    }

    /// Every status is one of the table, and the text is terminated and UTF-8.
    fn check(&self, status: wharf_status) {
        assert!((WHARF_E_TOO_SLOW..=WHARF_OK).contains(&status) && status != WHARF_E_PANIC, "status {status}");
        let len = self.0.layout.size();
        // SAFETY: `len` bytes are there.
        let bytes = unsafe { std::slice::from_raw_parts(self.0.place, len) };
        let says = usize::from_ne_bytes(bytes[..8].try_into().unwrap());
        if says < size_of::<wharf_error>() || says > 4096 {
            assert!(bytes[8..].iter().all(|byte| *byte == 0xAA), "an error of size {says} was written to");
            return;
        }
        let at = |offset: usize| i32::from_ne_bytes(bytes[offset..offset + 4].try_into().unwrap());
        assert_eq!(at(std::mem::offset_of!(wharf_error, status)), status);
        let from = std::mem::offset_of!(wharf_error, message);
        let text = std::ffi::CStr::from_bytes_until_nul(&bytes[from..from + 256]).expect("a terminated text");
        let text = text.to_str().expect("UTF-8");
        assert_eq!(text.is_empty(), status == WHARF_OK, "{text:?} for {status}");
    }
}

fn caller_driven() -> wharf_engine {
    let mut config: wharf_engine_config = unsafe { std::mem::zeroed() };
    config.struct_size = size_of::<wharf_engine_config>();
    config.flags = WHARF_ENGINE_CALLER_DRIVEN;
    config.max_connections = 4;
    config.pool_bytes = 4096;
    let mut engine = 0;
    // SAFETY: all of it lives for the call.
    assert_eq!(unsafe { wharf_engine_create(&config, &mut engine, null_mut()) }, WHARF_OK);
    engine
}

fn end(engine: wharf_engine) {
    // SAFETY: a handle is a number.
    assert_eq!(unsafe { wharf_engine_destroy(engine, 0) }, WHARF_OK);
}

/// The sizes that matter most, besides any other.
fn struct_size(data: &[u8], choice: u8, ours: usize) -> usize {
    let written = data.get(..8).map_or(0, |word| usize::from_ne_bytes(word.try_into().unwrap()));
    match choice % 8 {
        0 => written,
        1 => ours + 8,
        2 => ours.saturating_sub(8),
        3 => usize::from(choice) * 8,
        _ => ours,
    }
}

fn engines(data: &[u8], choice: u8, told: &Told) {
    let mut config = Exact::of(data, struct_size(data, choice, size_of::<wharf_engine_config>()));
    config.set::<Option<unsafe extern "C" fn()>>(std::mem::offset_of!(wharf_engine_config, on_log), None);
    let mut bytes = u64::MAX;
    let mut engine = u64::MAX;
    let pointer = config.place.cast::<wharf_engine_config>();
    // SAFETY: the struct is as large as it says, or says what no struct can be; its function is NULL.
    unsafe {
        let status = wharf_engine_footprint(pointer, &mut bytes);
        assert_eq!(status == WHARF_OK, bytes != 0, "{status}: {bytes} bytes");
        let whole = size_of::<wharf_engine_config>() <= config.layout.size();
        let workers = if whole { (*pointer).workers } else { 0 };
        if status == WHARF_OK && (bytes > MOST_BYTES || workers > MOST_THREADS) {
            return;
        }
        let made = wharf_engine_create(pointer, &mut engine, told.place());
        told.check(made);
        assert_eq!(made, status, "what the footprint says, the create does");
        assert_eq!(made == WHARF_OK, engine != 0);
        if made == WHARF_OK {
            let mut stats: wharf_stats = std::mem::zeroed();
            stats.struct_size = size_of::<wharf_stats>();
            assert_eq!(wharf_engine_stats(engine, &mut stats), WHARF_OK);
            assert_eq!(stats.heap_bytes, bytes);
            end(engine);
        }
    }
}

/// A struct whose first pointers are texts; the text is what follows the struct.
fn with_text(data: &[u8], choice: u8, ours: usize) -> (Exact, Option<CString>) {
    let config = Exact::of(data, struct_size(data, choice, ours));
    let text = CString::new(data.get(ours..).unwrap_or_default()).ok().filter(|_| choice & 64 == 0);
    (config, text)
}

fn handler(data: &[u8], choice: u8) -> Exact {
    let ours = size_of::<wharf_handler>();
    let size = if choice & 128 == 0 { ours } else { struct_size(data, data.len() as u8, ours) };
    // Only its size is arbitrary: a pointer to a function that is none crashes whoever calls it.
    Exact::of(&[], size)
}

fn servers(data: &[u8], choice: u8, told: &Told) {
    let (mut config, text) = with_text(data, choice, size_of::<wharf_server_config>());
    let pointer = text.as_ref().map_or(null(), |text| text.as_ptr());
    config.set(std::mem::offset_of!(wharf_server_config, address), pointer);
    // The same text as a list of address blocks, now as the one, now as the other.
    let list = if choice & 16 == 0 { null() } else { pointer };
    let (allow, deny) = if choice & 32 == 0 { (list, null()) } else { (null(), list) };
    config.set(std::mem::offset_of!(wharf_server_config, allow), allow);
    config.set(std::mem::offset_of!(wharf_server_config, deny), deny);
    let handler = handler(data, choice);
    let engine = caller_driven();
    let mut server = u64::MAX;
    // SAFETY: the structs are as large as they say; the text is terminated.
    let status =
        unsafe { wharf_server_create(engine, config.place.cast(), handler.place.cast(), &mut server, told.place()) };
    told.check(status);
    assert_eq!(status == WHARF_OK, server != 0);
    end(engine);
}

fn clients(data: &[u8], choice: u8, told: &Told) {
    let (mut config, text) = with_text(data, choice, size_of::<wharf_client_config>());
    let pointer = text.as_ref().map_or(null(), |text| text.as_ptr());
    config.set(std::mem::offset_of!(wharf_client_config, address), pointer);
    let local = if choice & 16 == 0 { null() } else { pointer };
    config.set(std::mem::offset_of!(wharf_client_config, local_address), local);
    let handler = handler(data, choice);
    let engine = caller_driven();
    let mut client = u64::MAX;
    // SAFETY: the structs are as large as they say; the text is terminated.
    let status =
        unsafe { wharf_client_create(engine, config.place.cast(), handler.place.cast(), &mut client, told.place()) };
    told.check(status);
    assert_eq!(status == WHARF_OK, client != 0);
    end(engine);
}

fn null_pointers(told: &Told) {
    let nothing: *const c_void = null();
    // SAFETY: NULL is refused.
    unsafe {
        told.check(wharf_engine_create(nothing.cast(), null_mut(), told.place()));
        told.check(wharf_server_create(1, nothing.cast(), nothing.cast(), null_mut(), told.place()));
        told.check(wharf_client_create(1, nothing.cast(), nothing.cast(), null_mut(), told.place()));
    }
}

fuzz_target!(|data: &[u8]| {
    let [call, size, rest @ ..] = data else { return };
    let told = Told::new(*size);
    match call % 16 {
        0 => null_pointers(&told),
        1..6 => engines(rest, *size, &told),
        6..11 => servers(rest, *size, &told),
        _ => clients(rest, *size, &told),
    }
});
