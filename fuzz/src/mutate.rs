use parti_sim::Rng;

/// The longest input.
const MAX_BYTES: usize = 4096;
/// How many changes make one input from another, at most.
const MAX_CHANGES: u64 = 8;
/// The longest piece that is removed, repeated or put in.
const MAX_PIECE: u64 = 64;
/// Pieces that programs are known to stumble over.
const PIECES: [&[u8]; 14] = [
    b"0",
    b"-1",
    b"1e99",
    b"18446744073709551615",
    b"18446744073709551616",
    b"null",
    b"[]",
    b"{}",
    b"\"\"",
    b"\\u0000",
    b"\xff\xfe",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"slot.01",
];

/// Another input, made from one of the `seeds` by a few changes.
pub fn mutate(rng: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut input = seeds.get(rng.index(seeds.len())).cloned().unwrap_or_default();
    for _ in 0..rng.between(1, MAX_CHANGES) {
        change(rng, seeds, &mut input);
    }
    input.truncate(MAX_BYTES);
    input
}

fn change(rng: &mut Rng, seeds: &[Vec<u8>], input: &mut Vec<u8>) {
    let at = rng.index(input.len() + 1);
    let end = (at + usize::try_from(rng.below(MAX_PIECE)).unwrap_or(0)).min(input.len());
    match rng.below(7) {
        0 if at < input.len() => input[at] ^= 1 << rng.below(8),
        1 if at < input.len() => input[at] = random_byte(rng),
        2 => drop(input.drain(at..end)),
        3 => {
            let piece = input[at..end].to_vec();
            insert(input, at, &piece);
        }
        4 => insert(input, at, PIECES[rng.index(PIECES.len())]),
        5 => {
            let other = seeds.get(rng.index(seeds.len())).map(Vec::as_slice).unwrap_or_default();
            let from = rng.index(other.len() + 1);
            insert(input, at, &other[from..]);
        }
        _ => {
            let piece: Vec<u8> = (0..rng.below(MAX_PIECE)).map(|_| random_byte(rng)).collect();
            insert(input, at, &piece);
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    input.splice(at..at, piece.iter().copied());
}

fn random_byte(rng: &mut Rng) -> u8 {
    u8::try_from(rng.below(256)).unwrap_or(0)
}
