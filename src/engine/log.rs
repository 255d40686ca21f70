//! The user's log. Lines are made on the stack: logging allocates nothing.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::events::{LINE_BYTES, Level, Log};

/// Lines of one kind in one second of the clock.
const LINES_PER_SECOND: u32 = 10;
const SECOND_NS: u64 = 1_000_000_000;

/// Kinds of lines of which a peer, or a trouble that stays, could make floods.
#[derive(Clone, Copy, Debug)]
pub enum Flood {
    RefusedPerIp,
    RefusedAtLimit,
    RefusedByList,
    RefusedByRate,
    RefusedByHost,
    AcceptFailed,
    ConnectFailed,
    SlowCallback,
    Fault,
    AlarmFailed,
}

const KINDS: usize = Flood::AlarmFailed as usize + 1;

/// Bounds the lines of one kind.
#[derive(Debug, Default)]
struct Limit {
    /// The latest second in which one was told, and how many in that.
    told: AtomicU64,
    left_out: AtomicU64,
}

impl Limit {
    /// Whether one more may be told now, and how many were left out since the last one.
    fn admit(&self, now_ns: u64) -> Option<u64> {
        let second = (now_ns / SECOND_NS + 1) as u32;
        let admitted = self.told.fetch_update(Relaxed, Relaxed, |told| match ((told >> 32) as u32, told as u32) {
            (latest, _) if latest < second => Some(u64::from(second) << 32 | 1),
            (_, lines) => (lines < LINES_PER_SECOND).then_some(told + 1),
        });
        if admitted.is_err() {
            self.left_out.fetch_add(1, Relaxed);
            return None;
        }
        Some(self.left_out.swap(0, Relaxed))
    }
}

/// One line of text, cut when it is too long.
pub struct Line {
    bytes: [u8; LINE_BYTES],
    len: usize,
}

/// Where an engine's lines go.
#[derive(Default)]
pub struct Logger {
    sink: Option<Arc<dyn Log>>,
    /// The least important level that is wanted; 0: none.
    level: i32,
    limits: [Limit; KINDS],
}

impl Logger {
    /// To this log, or to nobody.
    pub fn new(sink: Option<Arc<dyn Log>>) -> Logger {
        Logger { level: sink.as_ref().map_or(0, |sink| sink.level() as i32), sink, limits: Default::default() }
    }

    /// Whether a line of this level is wanted; asked before anything is formatted.
    #[inline]
    pub fn wants(&self, level: Level) -> bool {
        self.level >= level as i32
    }

    /// The same for a line of a kind that could flood the log: at most ten of each a second, and the next one tells how many
    /// were left out. The time is that of the port's clock.
    pub fn limited(&self, kind: Flood, now_ns: u64, level: Level, text: fmt::Arguments<'_>) {
        if !self.wants(level) {
            return;
        }
        match self.limits[kind as usize].admit(now_ns) {
            None => {}
            Some(0) => self.line(level, text),
            Some(left_out) => self.line(level, format_args!("{text} ({left_out} like it left out before)")),
        }
    }

    /// Hands a line to the user's log. Called on workers only, and under no lock.
    pub fn line(&self, level: Level, text: fmt::Arguments<'_>) {
        if let Some(sink) = self.sink.as_ref().filter(|_| self.wants(level)) {
            let mut line = Line::default();
            // A line that is too long is cut, which is not an error.
            let _ = fmt::write(&mut line, text);
            sink.line(level, line.text());
        }
    }
}

impl Default for Line {
    fn default() -> Line {
        Line { bytes: [0; LINE_BYTES], len: 0 }
    }
}

impl Line {
    /// What was written.
    pub fn text(&self) -> &str {
        // Only whole characters are written, so this cannot fail; an empty line would be the worst.
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut end = text.len().min(LINE_BYTES - self.len);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.bytes[self.len..self.len + end].copy_from_slice(&text.as_bytes()[..end]);
        self.len += end;
        if end == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    #[test]
    fn of_a_kind_ten_lines_a_second_are_told_and_the_next_one_counts_the_rest() {
        let limit = Limit::default();
        let told = |now_ns| (0..25).filter_map(|_| limit.admit(now_ns)).collect::<Vec<_>>();
        assert_eq!(told(0), [0; 10]);
        let mut next = told(SECOND_NS);
        assert_eq!(next.remove(0), 15);
        assert_eq!(next, [0; 9]);
        // A worker whose clock was read a moment earlier begins no new second.
        assert!(told(SECOND_NS - 1).is_empty());
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_at_a_character() {
        let mut line = Line::default();
        assert!(write!(line, "x{}", "ä".repeat(400)).is_err());
        assert_eq!(line.text().chars().count(), 320);
    }
}
