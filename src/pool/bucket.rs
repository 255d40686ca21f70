//! A token bucket: so many a second, and so many at once after a rest. It never blocks: who finds no token is told when
//! there will be one.

use std::sync::atomic::{AtomicU64, Ordering::*};

/// The tokens, kept as one time: the one at which the bucket would be full again.
#[derive(Debug)]
pub struct Bucket {
    interval_ns: u64,
    depth_ns: u64,
    full_at_ns: AtomicU64,
}

/// One token; given back when dropped, unless it was spent.
#[derive(Debug)]
pub struct Token<'a>(&'a Bucket);

impl Bucket {
    /// A full bucket of `burst` tokens, of which `per_s` come back each second.
    pub fn new(per_s: u32, burst: u32) -> Bucket {
        let interval_ns = 1_000_000_000 / u64::from(per_s.max(1));
        Bucket { interval_ns, depth_ns: interval_ns * u64::from(burst), full_at_ns: AtomicU64::new(0) }
    }

    /// Takes a token, or tells when there will be one.
    pub fn take(&self, now_ns: u64) -> Result<Token<'_>, u64> {
        let after = |full_at_ns: u64| full_at_ns.max(now_ns) + self.interval_ns;
        let taken = self.full_at_ns.fetch_update(AcqRel, Acquire, |full_at_ns| {
            (after(full_at_ns) <= now_ns + self.depth_ns).then(|| after(full_at_ns))
        });
        taken.map(|_| Token(self)).map_err(|full_at_ns| after(full_at_ns) - self.depth_ns)
    }
}

impl Token<'_> {
    /// What it was taken for has happened.
    pub fn spend(self) {
        std::mem::forget(self);
    }
}

impl Drop for Token<'_> {
    fn drop(&mut self) {
        self.0.full_at_ns.fetch_sub(self.0.interval_ns, AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_burst_is_followed_by_the_rate_and_a_rest_fills_it_again() {
        let bucket = Bucket::new(100, 3);
        let start = 5_000 * MS;
        let spend = |at: u64| bucket.take(at).map(Token::spend);
        assert_eq!([spend(start), spend(start), spend(start)], [Ok(()); 3]);
        assert_eq!(spend(start), Err(start + 10 * MS), "told when to come again");
        assert_eq!(spend(start + 10 * MS - 1), Err(start + 10 * MS));
        assert_eq!(spend(start + 10 * MS), Ok(()));
        assert_eq!(spend(start + 10 * MS), Err(start + 20 * MS));
        let rested = start + 10_000 * MS;
        assert_eq!([spend(rested), spend(rested), spend(rested)], [Ok(()); 3]);
        assert!(spend(rested).is_err(), "no more than the burst after however long a rest");
    }

    #[test]
    fn a_token_that_was_not_spent_is_there_again() {
        let bucket = Bucket::new(1, 1);
        let token = bucket.take(MS);
        assert!(token.is_ok() && bucket.take(MS).is_err());
        drop(token);
        bucket.take(MS).unwrap().spend();
        assert_eq!(bucket.take(MS).unwrap_err(), 1_001 * MS);
    }
}
