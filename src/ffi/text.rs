//! Texts go out to C.

use std::ffi::c_char;

/// Writes as much of a text as there is room for, cut at a whole character, and a NUL behind it.
///
/// # Safety
/// `room` bytes at `place` are writable, and `room` is not 0.
pub unsafe fn write_text(text: &str, place: *mut c_char, room: usize) {
    let mut len = text.len().min(room - 1);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    // SAFETY: len + 1 bytes fit into the room that the caller vouches for; a Rust string never overlaps C's buffer.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr(), place.cast::<u8>(), len);
        place.add(len).write(0);
    }
}
