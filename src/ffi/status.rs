//! Errors in words.
//!
//! Every number has a name and a sentence. Functions that can fail for the world's reasons - an address in use, a name
//! that does not resolve - also take a wharf_error, which tells the details. There is no "last error" of a thread.

use std::ffi::c_char;

use super::types::wharf_status;
use crate::status::STATUS_TABLE;

/// What went wrong, in detail. Yours: put it on the stack, set struct_size, pass its address (or NULL if you do not
/// care). Functions that take one fill it whenever they return: on success status is 0 and message is empty. A
/// struct_size smaller than that of this struct (0, for instance) leaves it untouched.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wharf_error {
    /// sizeof(wharf_error). Set it before the call.
    pub struct_size: usize,
    /// The same number that the function returned.
    pub status: wharf_status,
    /// The system's error number (errno), or 0 when the failure is not the system's.
    pub os_code: i32,
    /// What was tried, what went wrong, what to do. UTF-8, always NUL-terminated, cut at a whole character.
    pub message: [c_char; 256],
}

/// The name of a status, as in "WHARF_E_QUEUE_FULL".
///
/// status: any number. For one that this library does not know it is "WHARF_E_UNKNOWN".
///
/// The text is static: never NULL, never to be freed. Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_status_name(status: wharf_status) -> *const c_char {
    row(status).map_or(c"WHARF_E_UNKNOWN".as_ptr(), |row| row.1.as_ptr().cast())
}

/// One sentence that says what a status means and, where there is something to do, what to do.
///
/// status: any number. For one that this library does not know the sentence says so.
///
/// The text is static: never NULL, never to be freed. Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_status_text(status: wharf_status) -> *const c_char {
    let unknown = c"this version of the library does not know this number: was it made by a newer one?";
    row(status).map_or(unknown.as_ptr(), |row| row.2.as_ptr().cast())
}

/// The row of the table; name and sentence in it end with a NUL.
fn row(status: wharf_status) -> Option<&'static (i32, &'static str, &'static str)> {
    STATUS_TABLE.iter().find(|row| row.0 == status)
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;
    use crate::status::Status;

    #[test]
    fn every_number_has_a_terminated_name_and_text() {
        for status in Status::ALL {
            // SAFETY: both functions give static NUL-terminated texts for every number.
            let (name, text) = unsafe {
                (CStr::from_ptr(wharf_status_name(status.code())), CStr::from_ptr(wharf_status_text(status.code())))
            };
            assert_eq!(name.to_str().unwrap(), status.name());
            assert_eq!(text.to_str().unwrap(), status.text());
        }
    }

    #[test]
    fn an_unknown_number_is_called_unknown() {
        // SAFETY: as above.
        let name = unsafe { CStr::from_ptr(wharf_status_name(-12345)) };
        assert_eq!(name, c"WHARF_E_UNKNOWN");
    }
}
