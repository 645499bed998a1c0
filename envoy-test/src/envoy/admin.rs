//! Envoy's admin interface.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::client::{Client, empty, request};

/// Asks, on a connection of its own.
pub(super) async fn ask(admin: SocketAddr, method: &str, path: &str) -> Result<String> {
    let mut client = Client::http1(admin).await?;
    let answer = client
        .send(request(method, &admin.to_string(), path, &[], empty())?)
        .await?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    if answer.status != 200 {
        bail!("{method} {path}: {} {text}", answer.status);
    }
    Ok(text)
}

/// Counters and gauges of `/stats`. Histograms, whose values are no whole numbers, are left out.
pub(super) fn stats(text: &str) -> BTreeMap<String, i64> {
    text.lines()
        .filter_map(|line| line.rsplit_once(": "))
        .filter_map(|(name, value)| Some((name.to_owned(), signed(value)?)))
        .collect()
}

/// Envoy keeps gauges unsigned: 0 - 1 reads 2^64 - 1.
fn signed(value: &str) -> Option<i64> {
    value.parse::<u64>().ok().map(u64::cast_signed)
}

/// Names and addresses in `/listeners?format=json`.
pub(super) fn listeners(json: &str) -> Option<BTreeMap<String, SocketAddr>> {
    let json: Value = serde_json::from_str(json).ok()?;
    let mut listeners = BTreeMap::new();
    for listener in json.get("listener_statuses")?.as_array()? {
        let address = listener.get("local_address")?.get("socket_address")?;
        let (ip, port) = (
            address.get("address")?.as_str()?,
            address.get("port_value")?.as_u64()?,
        );
        listeners.insert(
            listener.get("name")?.as_str()?.to_owned(),
            format!("{ip}:{port}").parse().ok()?,
        );
    }
    Some(listeners)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stats_are_read_with_their_sign() {
        let text = "a.b: 3\nwasmcustom.x=.=y;.;in_flight: 18446744073709551615\nh: P0(nan,1.0) P25(nan,1.1)\n";
        let stats = stats(text);
        assert_eq!(stats.get("a.b"), Some(&3));
        assert_eq!(stats.get("wasmcustom.x=.=y;.;in_flight"), Some(&-1));
        assert_eq!(stats.len(), 2);
    }
}
