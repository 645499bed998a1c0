//! Several peers on a real Envoy: what each of them received, what Envoy's statistics say of it, and what is left at the end.

#[path = "many_peers/changes.rs"]
mod changes;
#[path = "many_peers/choice.rs"]
mod choice;
#[path = "many_peers/common.rs"]
mod common;
#[path = "many_peers/ejection.rs"]
mod ejection;
#[path = "many_peers/limits.rs"]
mod limits;
#[path = "many_peers/others.rs"]
mod others;
#[path = "many_peers/switched.rs"]
mod switched;
