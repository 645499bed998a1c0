//! What `cargo demo` is made of: its options, its two runs, what they came to, and how that is said.

pub mod drive;
pub mod options;
pub mod report;
pub mod result;
pub mod run;
