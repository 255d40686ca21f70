use super::*;

fn push(chain: &mut Chain, blocks: &Blocks, data: &[u8]) -> bool {
    let needed = chain.blocks_for(blocks, data.len());
    let fits = blocks.reserve(needed);
    if fits {
        chain.push_reserved(blocks, data);
    }
    fits
}

fn content(chain: &Chain, blocks: &Blocks) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[]); 64];
    let count = chain.slices(blocks, &mut slices);
    slices[..count].iter().flat_map(|slice| slice.to_vec()).collect()
}

#[test]
fn bytes_come_out_in_order_and_blocks_come_back() {
    let blocks = Blocks::new(4, 0, 8).unwrap();
    let mut chain = Chain::new(&blocks);
    assert!(push(&mut chain, &blocks, b"hello, "));
    assert!(push(&mut chain, &blocks, b"world of blocks"));
    assert_eq!(content(&chain, &blocks), b"hello, world of blocks");
    assert_eq!(blocks.in_use(), 3);
    chain.consume(&blocks, 9);
    assert_eq!(content(&chain, &blocks), b"rld of blocks");
    assert_eq!(blocks.in_use(), 2);
    chain.clear(&blocks);
    assert_eq!((blocks.in_use(), blocks.peak(), chain.len()), (0, 3, 0));
}

#[test]
fn a_push_that_does_not_fit_is_refused_whole() {
    let blocks = Blocks::new(2, 0, 8).unwrap();
    let mut chain = Chain::new(&blocks);
    assert!(push(&mut chain, &blocks, &[1; 12]));
    assert!(!push(&mut chain, &blocks, &[2; 5]));
    assert!(push(&mut chain, &blocks, &[3; 4]));
    assert_eq!(chain.len(), 16);
    chain.clear(&blocks);
    assert_eq!(blocks.in_use(), 0);
}

#[test]
fn bytes_that_are_put_before_the_others_come_out_first() {
    let blocks = Blocks::new(4, 3, 8).unwrap();
    let mut chain = Chain::new(&blocks);
    chain.prepend_reserved(&blocks, b"");
    assert!(push(&mut chain, &blocks, b"behind them"));
    chain.prepend_reserved(&blocks, b"the first ");
    assert_eq!((content(&chain, &blocks).as_slice(), chain.len()), (&b"the first behind them"[..], 21));
    assert!(push(&mut chain, &blocks, b" all"));
    for left in (0..25).rev() {
        chain.consume(&blocks, 1);
        assert_eq!(content(&chain, &blocks), b"the first behind them all"[25 - left..]);
    }
    chain.prepend_reserved(&blocks, b"alone");
    assert_eq!(content(&chain, &blocks), b"alone");
    chain.clear(&blocks);
    // The extra blocks came back as if they had been reserved from the others.
    assert_eq!((blocks.available(), blocks.in_use()), (4 + 3, 0));
}

#[test]
fn random_pushes_and_consumes_agree_with_a_plain_queue() {
    let blocks = Blocks::new(32, 0, 64).unwrap();
    let mut chain = Chain::new(&blocks);
    let mut model: Vec<u8> = Vec::new();
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..20_000u32 {
        let data: Vec<u8> = (0..random.usize(0..200)).map(|i| (round as usize + i) as u8).collect();
        if push(&mut chain, &blocks, &data) {
            model.extend(&data);
        }
        let len = random.usize(0..=model.len().min(150));
        chain.consume(&blocks, len);
        model.drain(..len);
        assert_eq!(chain.len(), model.len());
    }
    let rest = content(&chain, &blocks);
    assert_eq!(rest, model);
    chain.clear(&blocks);
    assert_eq!(blocks.in_use(), 0);
}
