//! The backend of the `log` facade: it writes to Envoy's log.

use log::{LevelFilter, Log, Metadata, Record};

struct Logger;

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // The levels of the ABI have the opposite order, from 0 for a trace.
        let level = 5_u32.saturating_sub(record.level() as u32);
        match record.args().as_str() {
            Some(text) => super::line_at(level, text),
            None => super::line_at(level, &record.args().to_string()),
        }
    }

    fn flush(&self) {}
}

/// Sends all log records to Envoy, which leaves out those below its own level.
pub fn start() {
    // It fails if there is a logger already, which is this one.
    let _ = log::set_logger(&Logger);
    log::set_max_level(LevelFilter::Debug);
}

/// Writes the message of a panic with the level critical, which `log` does not have.
pub fn panicked(message: &str) {
    super::line_at(5, message);
}
