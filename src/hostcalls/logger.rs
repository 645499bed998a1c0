//! The backend of the `log` facade: a line of Envoy's log.

use log::{LevelFilter, Log, Metadata, Record};

struct Logger;

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // The ABI counts the other way round, from 0 for a trace.
        let level = 5_u32.saturating_sub(record.level() as u32);
        match record.args().as_str() {
            Some(text) => super::line_at(level, text),
            None => super::line_at(level, &record.args().to_string()),
        }
    }

    fn flush(&self) {}
}

/// Whatever is logged from now on goes to Envoy, which leaves out what is below its own level.
pub fn start() {
    // It fails where there is one already, which is ours.
    let _ = log::set_logger(&Logger);
    log::set_max_level(LevelFilter::Debug);
}

/// The message of a panic, as critical, a level that `log` does not have.
pub fn panicked(message: &str) {
    super::line_at(5, message);
}
