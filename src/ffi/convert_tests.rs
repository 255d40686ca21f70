use std::ptr::{null, null_mut};

use super::*;

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
struct sample {
    struct_size: usize,
    number: u64,
    text: *const c_char,
}

// SAFETY: repr(C), size first, integers and nullable pointers only, a whole number of words.
unsafe impl CStruct for sample {
    const NAME: &'static str = "sample";
}

const WORD: usize = size_of::<usize>();

fn read(words: &[usize]) -> Outcome<sample> {
    // SAFETY: the tests pass at least as many words as the first of them says.
    unsafe { read_struct(words.as_ptr().cast::<sample>()) }
}

fn refusal(words: &[usize]) -> String {
    let failure = read(words).unwrap_err();
    assert_eq!(failure.status, Status::InvalidArgument);
    failure.message
}

#[test]
fn a_struct_of_this_version_is_copied() {
    let text = c"hello";
    let original = sample { struct_size: size_of::<sample>(), number: 7, text: text.as_ptr() };
    // SAFETY: a struct with its true size.
    assert_eq!(unsafe { read_struct(&original) }.unwrap(), original);
}

#[test]
fn a_struct_of_an_older_version_has_defaults_where_it_ends() {
    let older = read(&[2 * WORD, 7, 99]).unwrap();
    assert_eq!((older.number, older.text), (7, null()));
    assert_eq!(read(&[WORD, 99, 99]).unwrap().number, 0);
}

#[test]
fn a_struct_of_a_newer_version_must_not_ask_for_what_is_unknown() {
    let known = size_of::<sample>() / WORD;
    let mut newer = vec![0; known + 2];
    newer[0] = newer.len() * WORD;
    newer[1] = 7;
    assert_eq!(read(&newer).unwrap().number, 7);
    newer[known + 1] = 1;
    assert!(refusal(&newer).contains("newer version"));
}

#[test]
fn a_size_that_no_version_has_is_refused() {
    for size in [0, 1, WORD - 1, WORD + 4, MAX_STRUCT_BYTES + WORD, usize::MAX] {
        assert!(refusal(&[size, 0, 0, 0]).contains("set it to sizeof(sample)"));
    }
    // SAFETY: NULL is allowed.
    let failure = unsafe { read_struct::<sample>(null()) }.unwrap_err();
    assert!(failure.message.contains("sample is NULL"));
}

#[test]
fn a_struct_may_stand_at_any_address() {
    let mut bytes = [0_u8; 64];
    bytes[1..=WORD].copy_from_slice(&size_of::<sample>().to_ne_bytes());
    bytes[1 + WORD] = 7;
    // SAFETY: the bytes of a whole struct follow.
    let copy = unsafe { read_struct(bytes.as_ptr().add(1).cast::<sample>()) }.unwrap();
    assert_eq!(copy.number.to_ne_bytes()[0], 7);
}

#[test]
fn an_out_struct_is_written_as_far_as_it_goes() {
    let value = sample { struct_size: 0, number: 7, text: c"x".as_ptr() };
    let mut words = [2 * WORD, 1, 2, 3, 4];
    // SAFETY: as many words as the first says, or more.
    unsafe { OutStruct::at(words.as_mut_ptr().cast::<sample>()) }.unwrap().write(&value);
    assert_eq!(words, [2 * WORD, 7, 2, 3, 4]);

    let mut words = [WORD, 1, 2, 3, 4];
    // SAFETY: the same.
    unsafe { OutStruct::at(words.as_mut_ptr().cast::<sample>()) }.unwrap().write(&value);
    assert_eq!(words, [WORD, 1, 2, 3, 4]);

    let mut words = [4 * WORD, 1, 2, 3, 4];
    // SAFETY: the same.
    unsafe { OutStruct::at(words.as_mut_ptr().cast::<sample>()) }.unwrap().write(&value);
    assert_eq!(words, [4 * WORD, 7, value.text as usize, 0, 4]);
}

#[test]
fn an_out_struct_without_a_good_size_is_refused() {
    for size in [0, 1, WORD + 1, usize::MAX] {
        let mut words = [size, 1, 2];
        // SAFETY: the size is judged before anything else is touched.
        assert!(unsafe { OutStruct::at(words.as_mut_ptr().cast::<sample>()) }.is_err());
        assert_eq!(words, [size, 1, 2]);
    }
    // SAFETY: NULL is allowed.
    assert!(unsafe { OutStruct::<sample>::at(null_mut()) }.is_err());
}

fn text(bytes: &[u8]) -> Outcome<Option<&str>> {
    // SAFETY: the tests pass a NUL, or more bytes than are looked at.
    unsafe { text_in("address", bytes.as_ptr().cast()) }
}

#[test]
fn text_is_utf_8_and_bounded() {
    // SAFETY: NULL is allowed.
    assert_eq!(unsafe { text_in("address", null()) }.unwrap(), None);
    assert_eq!(text(b"\0").unwrap(), Some(""));
    assert_eq!(text("ä:80\0rest".as_bytes()).unwrap(), Some("ä:80"));
    assert!(text(b"ab\xff\0").unwrap_err().message.contains("not UTF-8 from byte 2 on"));
    let mut long = vec![b'x'; MAX_TEXT_BYTES];
    assert!(text(&long).unwrap_err().message.contains("more than 4095 bytes"));
    long[MAX_TEXT_BYTES - 1] = 0;
    assert_eq!(text(&long).unwrap().map(str::len), Some(MAX_TEXT_BYTES - 1));
}

/// Writes a text into a buffer of so many bytes; gives the result, what the buffer then holds, and needed.
fn written(content: &str, room: usize) -> (Result<(), Status>, Vec<u8>, usize) {
    let mut buffer = vec![b'#'; room + 1];
    let mut needed = 99;
    // SAFETY: the buffer has one byte more than we say.
    let out = unsafe { TextOut::at(buffer.as_mut_ptr().cast(), room, &mut needed) }.unwrap();
    let result = out.write(content);
    assert_eq!(buffer[room], b'#', "written past the end");
    (result, buffer, needed)
}

#[test]
fn text_that_fits_is_written_with_its_nul() {
    let (result, buffer, needed) = written("abc", 4);
    assert_eq!((result, &buffer[..4], needed), (Ok(()), &b"abc\0"[..], 4));
}

#[test]
fn text_that_does_not_fit_is_cut_at_a_character_and_terminated() {
    let (result, buffer, needed) = written("abc", 3);
    assert_eq!((result, &buffer[..3], needed), (Err(Status::Limit), &b"ab\0"[..], 4));
    let (result, buffer, needed) = written("aä", 3);
    assert_eq!((result, &buffer[..2], needed), (Err(Status::Limit), &b"a\0"[..], 4));
    let (result, _, needed) = written("abc", 0);
    assert_eq!((result, needed), (Err(Status::Limit), 4));
}

#[test]
fn the_size_of_a_text_can_be_asked_for() {
    let mut needed = 99;
    // SAFETY: NULL is allowed.
    let out = unsafe { TextOut::at(null_mut(), 0, &mut needed) }.unwrap();
    assert_eq!(needed, 0);
    let out = TextOut { needed: Out { place: &mut needed, lives: PhantomData }, ..out };
    assert_eq!(out.write("abc"), Ok(()));
    assert_eq!(needed, 4);
    // SAFETY: NULL is allowed.
    unsafe {
        assert!(TextOut::at(null_mut(), 5, &mut needed).is_err());
        assert!(TextOut::at(null_mut(), 0, null_mut()).is_err());
    }
}

#[test]
fn bytes_are_checked_before_they_are_believed() {
    let data = [1_u8, 2, 3];
    let place = data.as_ptr().cast::<c_void>();
    // SAFETY: what is too long or NULL is refused before it is read.
    unsafe {
        assert_eq!(bytes_in(place, 3), Ok(&data[..]));
        assert_eq!(bytes_in(null(), 0), Ok(&[][..]));
        assert_eq!(bytes_in(null(), 1), Err(Status::InvalidArgument));
        assert_eq!(bytes_in(place, usize::MAX), Err(Status::InvalidArgument));
        assert_eq!(bytes_out(null_mut(), 1), Err(Status::InvalidArgument));
        assert_eq!(bytes_out(place.cast_mut(), 0), Err(Status::InvalidArgument));
        assert_eq!(bytes_out(place.cast_mut(), usize::MAX), Err(Status::InvalidArgument));
    }
}

#[test]
fn a_result_is_zero_until_it_is_there() {
    let mut place = 7_u64;
    // SAFETY: a place of ours, or NULL.
    let out = unsafe { Out::required(&mut place) }.unwrap();
    out.set(8);
    assert_eq!(place, 8);
    // SAFETY: the same.
    unsafe {
        assert!(Out::<u64>::required(null_mut()).is_err());
        Out::optional(null_mut()).set(5_u64);
        let _ = Out::required(&mut place);
    }
    assert_eq!(place, 0);
}

#[test]
fn times_are_finite_or_for_ever() {
    assert_eq!(patience(0), Some(Duration::ZERO));
    assert_eq!(patience(WHARF_FOREVER), None);
    assert_eq!(signed_patience(-1), Ok(None));
    assert_eq!(signed_patience(5), Ok(Some(Duration::from_millis(5))));
    assert_eq!(signed_patience(-2), Err(Status::InvalidArgument));
}

#[test]
fn unknown_flags_are_named() {
    assert!(known_flags("flags", 3, 7).is_ok());
    assert!(known_flags("flags", 9, 7).unwrap_err().message.contains("0x8"));
    assert!(is_zero("reserved", 0).is_ok() && is_zero("reserved", 1).is_err());
}
