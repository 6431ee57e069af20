//! Random name suffixes.

use ring::rand::{SecureRandom, SystemRandom};

/// The characters of generated names, as upstream's `util/rand`: no vowels, so that no words appear, and none that
/// look alike.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// `count` random characters that are safe in any name.
pub fn random_suffix(count: usize) -> String {
    let mut bytes = [0; 8];
    let mut suffix = String::with_capacity(count);
    while suffix.len() < count {
        SystemRandom::new().fill(&mut bytes).expect("the system's random generator works");
        // The tail of the byte range would make some characters likelier.
        let fair = bytes
            .iter()
            .filter(|byte| **byte < 243)
            .map(|byte| char::from(ALPHABET[usize::from(*byte) % 27]));
        suffix.extend(fair.take(count - suffix.len()));
    }
    suffix
}
