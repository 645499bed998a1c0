//! No request crosses from one cluster to another twice, whatever the graph of the clusters that spill to each other, and
//! whatever proxies with the filter it passes on its way.

#[path = "no_loop/again.rs"]
mod again;
#[path = "no_loop/common.rs"]
mod common;
#[path = "no_loop/graphs.rs"]
mod graphs;
#[path = "no_loop/itself.rs"]
mod itself;
#[path = "no_loop/proxies.rs"]
mod proxies;
