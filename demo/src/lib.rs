//! What `cargo demo` is made of: its options, its runs, what they came to, and how that is said and drawn.

pub mod course;
pub mod drive;
pub mod eject;
pub mod errors;
pub mod figure;
pub mod in_flight;
pub mod keep;
pub mod options;
pub mod peers;
pub mod report;
pub mod result;
pub mod run;
pub mod sample;
pub mod witness;
