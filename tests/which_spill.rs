//! Which requests may be spilled (`spill.match`), and which of them go to the same peer (`spill.consistentHash`), on a real
//! Envoy: what home and each peer received, and what Envoy's own routes make of the same requests.

#[path = "many_peers/common.rs"]
mod common;
#[path = "which_spill/matching.rs"]
mod matching;
#[path = "which_spill/routes.rs"]
mod routes;
#[path = "which_spill/sessions.rs"]
mod sessions;

use serde_json::Value;

/// This configuration with this field of its service.
fn with(mut config: Value, field: &str, value: Value) -> Value {
    config["services"][0][field] = value;
    config
}
