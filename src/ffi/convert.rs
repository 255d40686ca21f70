//! C memory becomes Rust values and back. Nothing is believed: sizes, NULLs, text and numbers are checked here, once.

use std::ffi::{c_char, c_void};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::time::Duration;

use super::text::write_text;
use super::types::WHARF_FOREVER;
use crate::engine::api::Patience;
use crate::engine::failure::{Failure, Outcome};
use crate::status::Status;

/// No struct of this ABI is larger in any version; a larger `struct_size` was never set.
pub const MAX_STRUCT_BYTES: usize = 4096;
/// The longest text that is taken, with its NUL.
pub const MAX_TEXT_BYTES: usize = 4096;
/// The longest list of address blocks that is taken, with its NUL.
pub const MAX_LIST_BYTES: usize = 1 << 20;
/// Every struct begins with its size.
const SIZE_BYTES: usize = size_of::<usize>();

/// A struct of the ABI.
///
/// # Safety `repr(C)`, begins with `struct_size: usize`, any bit pattern (all zeroes too) is a valid value, no padding
/// at its end.
pub unsafe trait CStruct: Copy {
    /// What its users call it.
    const NAME: &'static str;
}

fn invalid(message: String) -> Failure {
    Failure::new(Status::InvalidArgument, message)
}

/// Whether a size can be that of some version of the struct. Fields are never cut: every version ends at a whole word.
fn is_good_size(size: usize) -> bool {
    (SIZE_BYTES..=MAX_STRUCT_BYTES).contains(&size) && size % SIZE_BYTES == 0
}

/// Copies a caller's struct. One of an older version is shorter: what is missing is zero, the default. One of a newer
/// version is longer: what this version does not know must be zero.
///
/// # Safety
/// `from` is NULL or points to a readable struct that is as large as its `struct_size` says.
pub unsafe fn read_struct<T: CStruct>(from: *const T) -> Outcome<T> {
    let name = T::NAME;
    if from.is_null() {
        return Err(invalid(format!("{name} is NULL: pass the address of one whose struct_size is set")));
    }
    // SAFETY: not NULL, and every struct begins with its size.
    let size = unsafe { from.cast::<usize>().read_unaligned() };
    if !is_good_size(size) {
        return Err(invalid(format!("struct_size of {name} is {size}: set it to sizeof({name})")));
    }
    let ours = size_of::<T>();
    // SAFETY: the struct is as large as it says.
    let beyond = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), size) }.get(ours..).unwrap_or_default();
    if beyond.iter().any(|byte| *byte != 0) {
        return Err(invalid(format!(
            "{name} was made for a newer version of the library: a field is set that this version does not know"
        )));
    }
    let mut copy = MaybeUninit::<T>::zeroed();
    // SAFETY: the shorter of the two sizes is readable there and writable here; all zeroes and any bytes are a valid T.
    unsafe {
        std::ptr::copy_nonoverlapping(from.cast::<u8>(), copy.as_mut_ptr().cast::<u8>(), size.min(ours));
        Ok(copy.assume_init())
    }
}

/// A struct that the caller wants filled; its `struct_size` was good.
pub struct OutStruct<T> {
    place: *mut T,
    size: usize,
}

impl<T: CStruct> OutStruct<T> {
    /// Checks a place before anything is done.
    ///
    /// # Safety
    /// `place` is NULL or points to a writable struct that is as large as its `struct_size` says.
    pub unsafe fn at(place: *mut T) -> Result<OutStruct<T>, Status> {
        if place.is_null() {
            return Err(Status::InvalidArgument);
        }
        // SAFETY: not NULL, and every struct begins with its size.
        let size = unsafe { place.cast::<usize>().read_unaligned() };
        if is_good_size(size) { Ok(OutStruct { place, size }) } else { Err(Status::InvalidArgument) }
    }

    /// Writes what fits behind `struct_size`, and zeroes what this version does not know.
    pub fn write(self, value: &T) {
        let len = self.size.min(size_of::<T>());
        // SAFETY: `at` was told that `size` bytes are writable; T is at least as long as its first field.
        unsafe {
            let (to, from) = (self.place.cast::<u8>(), (value as *const T).cast::<u8>());
            std::ptr::copy_nonoverlapping(from.add(SIZE_BYTES), to.add(SIZE_BYTES), len - SIZE_BYTES);
            to.add(len).write_bytes(0, self.size - len);
        }
    }
}

/// A place for one result.
pub struct Out<'a, T> {
    place: *mut T,
    lives: PhantomData<&'a mut T>,
}

impl<T: Default> Out<'_, T> {
    /// A place that must be there; it holds zero from now on.
    ///
    /// # Safety
    /// `place` is NULL or writable.
    pub unsafe fn required(place: *mut T) -> Result<Self, Status> {
        if place.is_null() {
            return Err(Status::InvalidArgument);
        }
        // SAFETY: the same promise.
        Ok(unsafe { Self::optional(place) })
    }

    /// A place that may be missing.
    ///
    /// # Safety
    /// `place` is NULL or writable.
    pub unsafe fn optional(place: *mut T) -> Self {
        let out = Out { place, lives: PhantomData };
        out.set(T::default());
        out
    }

    /// Whether there is a place.
    pub fn is_there(&self) -> bool {
        !self.place.is_null()
    }

    /// Writes the result.
    pub fn set(&self, value: T) {
        if self.is_there() {
            // SAFETY: the constructors were told that the place is writable.
            unsafe { self.place.write_unaligned(value) };
        }
    }
}

/// The place for the handle of what a create makes.
///
/// # Safety
/// `place` is NULL or writable.
pub unsafe fn new_handle<'a>(place: *mut u64) -> Outcome<Out<'a, u64>> {
    // SAFETY: the caller's promise.
    let out = unsafe { Out::required(place) };
    out.map_err(|_| invalid("out is NULL: pass the address of the handle that is to be made".to_string()))
}

/// A NUL-terminated text; None when it is NULL.
///
/// # Safety
/// `text` is NULL or readable up to its NUL or to [`MAX_TEXT_BYTES`], and unchanged while the result lives.
pub unsafe fn text_in<'a>(name: &str, text: *const c_char) -> Outcome<Option<&'a str>> {
    // SAFETY: the caller's promise.
    unsafe { text_within(name, text, MAX_TEXT_BYTES) }
}

/// The same for lists, which may be longer.
///
/// # Safety
/// `text` is NULL or readable up to its NUL or to [`MAX_LIST_BYTES`], and unchanged while the result lives.
pub unsafe fn list_in<'a>(name: &str, text: *const c_char) -> Outcome<Option<&'a str>> {
    // SAFETY: the caller's promise.
    unsafe { text_within(name, text, MAX_LIST_BYTES) }
}

/// # Safety
/// `text` is NULL or readable up to its NUL or for `room` bytes, and unchanged while the result lives.
unsafe fn text_within<'a>(name: &str, text: *const c_char, room: usize) -> Outcome<Option<&'a str>> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: each byte is read only after none of those before it was the NUL.
    let len = (0..room).find(|place| unsafe { text.add(*place).read() } == 0);
    let Some(len) = len else {
        return Err(invalid(format!("{name} has more than {} bytes: end it with a NUL", room - 1)));
    };
    // SAFETY: these bytes were just read.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len) };
    let text = std::str::from_utf8(bytes);
    text.map(Some).map_err(|error| invalid(format!("{name} is not UTF-8 from byte {} on", error.valid_up_to())))
}

/// The caller's buffer for a text, checked before anything is done.
pub struct TextOut<'a> {
    buffer: *mut c_char,
    len: usize,
    needed: Out<'a, usize>,
}

impl TextOut<'_> {
    /// NULL and 0 ask for the size alone.
    ///
    /// # Safety
    /// `buffer` is NULL or `len` bytes of it are writable; `needed` is NULL or writable.
    pub unsafe fn at(buffer: *mut c_char, len: usize, needed: *mut usize) -> Result<Self, Status> {
        // SAFETY: the caller's promise.
        let needed = unsafe { Out::optional(needed) };
        let asks_for_nothing = buffer.is_null() && (len > 0 || !needed.is_there());
        if asks_for_nothing || len > isize::MAX as usize {
            return Err(Status::InvalidArgument);
        }
        Ok(TextOut { buffer, len, needed })
    }

    /// Writes the text, or as much of it as there is room for.
    pub fn write(self, text: &str) -> Result<(), Status> {
        let needed = text.len() + 1;
        self.needed.set(needed);
        if self.buffer.is_null() {
            return Ok(());
        }
        if self.len > 0 {
            // SAFETY: `at` was told that `len` bytes are writable.
            unsafe { write_text(text, self.buffer, self.len) };
        }
        if needed <= self.len { Ok(()) } else { Err(Status::Limit) }
    }
}

/// Bytes to read. NULL is good for none.
///
/// # Safety
/// `data` is NULL or `len` bytes of it are readable, and unchanged while the result lives.
#[inline]
pub unsafe fn bytes_in<'a>(data: *const c_void, len: usize) -> Result<&'a [u8], Status> {
    if len == 0 {
        return Ok(&[]);
    }
    if data.is_null() || len > isize::MAX as usize {
        return Err(Status::InvalidArgument);
    }
    // SAFETY: not NULL, a length that Rust allows, readable by the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) })
}

/// Room to write to; at least one byte.
///
/// # Safety
/// `buffer` is NULL or `len` bytes of it are writable, and nobody else uses them while the result lives.
pub unsafe fn bytes_out<'a>(buffer: *mut c_void, len: usize) -> Result<&'a mut [u8], Status> {
    if buffer.is_null() || len == 0 || len > isize::MAX as usize {
        return Err(Status::InvalidArgument);
    }
    // SAFETY: not NULL, a length that Rust allows, ours for the call; what C left in it are bytes like any other.
    Ok(unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), len) })
}

/// How long to wait: milliseconds, or WHARF_FOREVER.
pub fn patience(timeout_ms: u32) -> Patience {
    (timeout_ms != WHARF_FOREVER).then(|| Duration::from_millis(timeout_ms.into()))
}

/// The same where -1 is for ever.
pub fn signed_patience(timeout_ms: i32) -> Result<Patience, Status> {
    match u64::try_from(timeout_ms) {
        Ok(ms) => Ok(Some(Duration::from_millis(ms))),
        Err(_) if timeout_ms == -1 => Ok(None),
        Err(_) => Err(Status::InvalidArgument),
    }
}

/// Refuses bits that mean nothing in this version.
pub fn known_flags(name: &str, flags: u32, known: u32) -> Outcome<()> {
    match flags & !known {
        0 => Ok(()),
        unknown => Err(invalid(format!("{name} has bits that this version does not know: {unknown:#x}"))),
    }
}

/// Refuses a value in a field that has no meaning yet.
pub fn is_zero(name: &str, value: u32) -> Outcome<()> {
    if value == 0 { Ok(()) } else { Err(invalid(format!("{name} is {value}: set it to 0"))) }
}

/// A value that is none of the constants.
pub fn unknown(name: &str, value: impl std::fmt::Display, choices: &str) -> Failure {
    invalid(format!("{name} is {value}: choose {choices}"))
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
