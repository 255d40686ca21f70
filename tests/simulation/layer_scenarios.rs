//! Single scenarios of the way through a layer: every cut of a stream, messages that are too long, and who is not concerned.

use std::ffi::CString;
use std::sync::Arc;

use wharf::port::sim::Peer;

use crate::common::*;
use crate::layers::{MOST, RECEIVE_BLOCKS, begin, counts, engine, framed, layered, turn};

/// A server with the layer and a peer that is connected to it; `pieces` are sent one after the other, a turn between them.
fn say(pieces: &[&[u8]]) -> (Engine, Arc<Recorder>, Peer) {
    begin(7, (4096, 4096));
    let engine = engine(64);
    let recorder = Recorder::new();
    layered(&engine, recorder.handler(), |_| {});
    let peer = Peer::connect("10.0.0.1:0".parse().unwrap(), "127.0.0.1:500".parse().unwrap()).unwrap();
    (0..5).for_each(|_| turn(&engine));
    for piece in pieces {
        assert_eq!(peer.send(piece).unwrap(), piece.len());
        (0..2).for_each(|_| turn(&engine));
    }
    (0..3).for_each(|_| turn(&engine));
    (engine, recorder, peer)
}

fn messages(recorder: &Recorder) -> Vec<Vec<u8>> {
    let data = |event| if let Event::Receive(_, data) = event { Some(data) } else { None };
    recorder.events().into_iter().filter_map(data).collect()
}

fn all_blocks_are_back(engine: &Engine) -> bool {
    let counts = counts(engine);
    counts.blocks_available + counts.extra_blocks == counts.blocks
}

#[test]
fn a_stream_that_is_cut_at_any_byte_brings_the_same_messages() {
    let sent = [pattern(1, 5), Vec::new(), pattern(2, MOST), pattern(3, 1), pattern(4, 100)];
    let stream = sent.iter().flat_map(|message| framed(message)).collect::<Vec<u8>>();
    for cut in 0..=stream.len() {
        let (first, second) = stream.split_at(cut);
        let (engine, recorder, _peer) = say(&[first, second]);
        assert_eq!(messages(&recorder), sent, "cut at {cut}");
        assert!(all_blocks_are_back(&engine), "an idle connection holds a block, cut at {cut}");
    }
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    let (_engine, recorder, _peer) = say(&bytes);
    assert_eq!(messages(&recorder), sent, "byte by byte");
}

#[test]
fn a_message_that_is_too_long_closes_its_connection_and_gives_all_blocks_back() {
    let good = framed(b"good");
    for length in [MOST as u32 + 1, 1 << 20, u32::MAX] {
        let header = length.to_be_bytes();
        let stream = [&good[..], &header, b"more"].concat();
        for cut in 0..stream.len() {
            let (engine, recorder, _peer) = say(&[&stream[..cut], &stream[cut..]]);
            assert_eq!(messages(&recorder), [b"good"], "cut at {cut}");
            assert_eq!(recorder.wait_close(), WHARF_E_LIMIT);
            assert!(all_blocks_are_back(&engine), "{:?}", counts(&engine));
            assert_eq!(counts(&engine).places, 0);
        }
    }
}

#[test]
fn a_message_that_has_begun_holds_blocks_and_its_end_gives_them_back() {
    let (engine, recorder, peer) = say(&[&framed(&[1; 200])[..100]]);
    assert!(!all_blocks_are_back(&engine));
    peer.will_reset();
    drop(peer);
    (0..5).for_each(|_| turn(&engine));
    assert_eq!(recorder.wait_close(), WHARF_E_RESET);
    assert!(all_blocks_are_back(&engine));
}

#[test]
fn a_server_without_a_layer_in_the_same_engine_is_untouched_by_it() {
    let (engine, recorder, peer) = say(&[&framed(b"framed")]);
    let plain = Recorder::with_hook(|event| {
        if let Event::Receive(conn, data) = event {
            ok(send(*conn, data));
        }
    });
    engine.server_with(plain.handler(), "127.0.0.1:501", |_| {});
    let other = Peer::connect("10.0.0.2:0".parse().unwrap(), "127.0.0.1:501".parse().unwrap()).unwrap();
    (0..5).for_each(|_| turn(&engine));
    // Bytes that would be too long a message, and no whole one.
    let bytes = [255; 700];
    assert_eq!(other.send(&bytes).unwrap(), bytes.len());
    assert_eq!(peer.send(&framed(b"again")).unwrap(), 9);
    (0..5).for_each(|_| turn(&engine));
    assert_eq!(received(&plain.events()), bytes);
    let mut buffer = [0; 1000];
    assert_eq!(other.receive(&mut buffer).unwrap(), bytes.len());
    assert_eq!(buffer[..bytes.len()], bytes);
    assert_eq!(messages(&recorder), [&b"framed"[..], b"again"]);
    assert!(all_blocks_are_back(&engine));
}

#[test]
fn a_pool_that_never_has_blocks_for_a_receive_takes_no_server_with_a_layer() {
    begin(7, (4096, 4096));
    let address = CString::new("127.0.0.1:500").unwrap();
    let mut config = server_config();
    config.address = address.as_ptr();
    for (blocks, expected) in [(RECEIVE_BLOCKS - 1, WHARF_E_LIMIT), (RECEIVE_BLOCKS, WHARF_OK)] {
        let engine = engine(blocks);
        let handler = Recorder::new().handler();
        let mut server = 0;
        let status = unsafe { wharf_test_server_create_length_prefixed(engine.0, &config, &handler, &mut server) };
        assert_eq!(status, expected);
    }
}
