//! What stands between an exported function and the engine: a child of fork(2) gets no further, panics are contained,
//! failures become numbers and sentences.

use std::ffi::c_char;
use std::mem::offset_of;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::convert::MAX_STRUCT_BYTES;
use super::status::wharf_error;
use super::text::write_text;
use super::types::wharf_status;
use crate::engine::failure::Outcome;
use crate::port::fork;
use crate::status::Status;

/// Runs the body of an exported function, unless this is a child of fork(2); a panic in it becomes a status.
#[inline]
pub fn guard(body: impl FnOnce() -> Result<(), Status>) -> wharf_status {
    if !fork::is_surely_own_process() {
        if let Err(status) = check_process() {
            return status.code();
        }
    }
    guard_anywhere(body)
}

/// The same for functions that touch no engine: they work in a child, too.
#[inline]
pub fn guard_anywhere(body: impl FnOnce() -> Result<(), Status>) -> wharf_status {
    match contain(body) {
        Ok(()) => Status::Ok.code(),
        Err(status) => status.code(),
    }
}

/// As [`guard`], for functions that tell details. The error is written last, when the body has returned.
pub fn guard_with_error(error: *mut wharf_error, body: impl FnOnce() -> Outcome<()>) -> wharf_status {
    let failure = match check_process() {
        Ok(()) => contain(body).err(),
        Err(status) => {
            // No allocation: the parent's other threads may have left the allocator locked.
            // SAFETY: the conventions of the header: a wharf_error is NULL or a writable struct whose struct_size is
            // set.
            unsafe { write_error(error, status, 0, status.text()) };
            return status.code();
        }
    };
    let status = failure.as_ref().map_or(Status::Ok, |failure| failure.status);
    let (os_code, message) = failure.as_ref().map_or((0, ""), |failure| (failure.os_code, &failure.message));
    // SAFETY: the conventions of the header: a wharf_error is NULL or a writable struct whose struct_size is set.
    unsafe { write_error(error, status, os_code, message) };
    status.code()
}

/// Fails in a child, and without the memory to notice one.
#[cold]
#[inline(never)]
fn check_process() -> Result<(), Status> {
    match fork::is_own_process() {
        Ok(true) => Ok(()),
        Ok(false) => Err(Status::Forked),
        Err(_) => Err(Status::NoMemory),
    }
}

/// Unwinding into C is undefined, so it ends here.
#[inline]
fn contain<E: From<Status>>(body: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
    // Nothing of ours is seen half-changed after a panic: the body works on copies, and the engine guards its own
    // state.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => result,
        Err(payload) => {
            // Dropping what was thrown could throw again.
            std::mem::forget(payload);
            Err(E::from(Status::Panic))
        }
    }
}

/// # Safety
/// `error` is NULL or points to a struct of at least 8 bytes that is as large as its `struct_size` says.
unsafe fn write_error(error: *mut wharf_error, status: Status, os_code: i32, message: &str) {
    if error.is_null() {
        return;
    }
    // SAFETY: not NULL, and every wharf_error begins with its size.
    let size = unsafe { (&raw const (*error).struct_size).read_unaligned() };
    if !(size_of::<wharf_error>()..=MAX_STRUCT_BYTES).contains(&size) {
        return;
    }
    // SAFETY: the caller's struct holds all of our fields, as its size says.
    unsafe {
        (&raw mut (*error).status).write_unaligned(status.code());
        (&raw mut (*error).os_code).write_unaligned(os_code);
        let place = error.cast::<u8>().add(offset_of!(wharf_error, message));
        write_text(message, place.cast(), size_of::<[c_char; 256]>());
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use crate::engine::failure::Failure;

    use super::*;

    fn blank(struct_size: usize) -> wharf_error {
        wharf_error { struct_size, status: 77, os_code: 77, message: [b'x' as c_char; 256] }
    }

    fn message(error: &wharf_error) -> &str {
        // SAFETY: the functions under test terminate the message.
        unsafe { CStr::from_ptr(error.message.as_ptr()) }.to_str().unwrap()
    }

    #[test]
    fn a_panic_becomes_a_status() {
        assert_eq!(guard(|| std::panic::panic_any(7)), Status::Panic.code());
        let mut error = blank(size_of::<wharf_error>());
        assert_eq!(guard_with_error(&mut error, || std::panic::panic_any("no")), Status::Panic.code());
        assert_eq!((error.status, error.os_code), (Status::Panic.code(), 0));
        assert_eq!(message(&error), Status::Panic.text());
    }

    #[test]
    fn an_error_is_told_and_success_clears_it() {
        let mut error = blank(size_of::<wharf_error>());
        let fail = || Err(Failure { status: Status::Os, os_code: 5, message: "bind it: broken".into() });
        assert_eq!(guard_with_error(&mut error, fail), Status::Os.code());
        assert_eq!((error.status, error.os_code, message(&error)), (Status::Os.code(), 5, "bind it: broken"));
        assert_eq!(guard_with_error(&mut error, || Ok(())), 0);
        assert_eq!((error.status, error.os_code, message(&error)), (0, 0, ""));
    }

    #[test]
    fn an_error_without_a_good_size_is_left_alone() {
        for size in [0, 8, size_of::<wharf_error>() - 1, MAX_STRUCT_BYTES + 1, usize::MAX] {
            let mut error = blank(size);
            assert_eq!(guard_with_error(&mut error, || Err(Status::Limit.into())), Status::Limit.code());
            assert_eq!((error.status, error.message[0]), (77, b'x' as c_char));
        }
        assert_eq!(guard_with_error(std::ptr::null_mut(), || Err(Status::Limit.into())), Status::Limit.code());
    }

    #[test]
    fn a_long_message_is_cut_at_a_whole_character() {
        let mut error = blank(size_of::<wharf_error>());
        let text = format!("x{}", "\u{e4}".repeat(200));
        let _ = guard_with_error(&mut error, || Err(Failure::new(Status::Os, text.clone())));
        assert_eq!(message(&error), &text[..255]);
        let text = "\u{e4}".repeat(200);
        let _ = guard_with_error(&mut error, || Err(Failure::new(Status::Os, text.clone())));
        assert_eq!(message(&error), &text[..254]);
    }
}
