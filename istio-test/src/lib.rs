//! Two real Istio clusters on one machine: per cluster an etcd, a kube-apiserver and an istiod, workloads with
//! pilot-agent, iptables capture and a real Envoy, an east-west gateway, CAs under one root, and an OCI registry.
//!
//! [`up::up`] brings it up, [`down::down`] ends it; [`Mesh`] is what runs, and what `cargo mesh demo` and the tests talk to.

pub mod access_log;
pub mod ca;
pub mod control;
pub mod down;
pub mod experiment;
pub mod federation;
pub mod fixture;
pub mod heal;
pub mod kube;
pub mod layout;
pub mod mesh;
pub mod multi_primary;
pub mod needs;
pub mod net;
pub mod pod;
pub mod proxy;
pub mod registry;
pub mod third;
pub mod tools;
pub mod up;

pub use layout::{Cluster, Layout, PodSpec};
pub use mesh::Mesh;
