//! Several peers on a real Envoy: what each of them received, what Envoy's statistics say of it, and what is left at the end.

mod changes;
mod choice;
mod common;
mod ejection;
mod limits;
