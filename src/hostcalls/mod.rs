//! Every hostcall, and what each answers when it fails: nothing here panics, whatever status the host returns.
//!
//! The SDK's own `hostcalls` panic on a status that they do not expect, and a panic is a trap: it ends the VM and every
//! request on that worker. So the few calls that we need are declared here. Signatures: Proxy-Wasm ABI 0.2.1.
//! The price of each was measured on Envoy (instructions): a call that returns bytes 10k, since the host calls back
//! into the VM to allocate; a header that is absent 2.7k, a metric read 2.3k, added to 0.8k. Those that are called from many
//! places are not inlined, which saves 2,000 bytes of the module.

// The one place that needs it: the ABI is C.
#![allow(unsafe_code)]

mod abi;
pub mod logger;
mod property;

use core::ptr::null_mut;
use policy::time::Instant;
use std::time::Duration;

use abi::*;

use config::line::line;
pub use log::Level;
pub use property::*;

/// Id of a metric, in this VM.
pub type Metric = u32;

/// Which header map.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Map {
    /// Of the request.
    Request = 0,
    /// Of the response.
    Response = 2,
    /// What came after its body.
    ResponseTrailers = 3,
}

/// Kind of a metric.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Kind {
    /// Only grows.
    Counter = 0,
    /// Goes up and down.
    Gauge = 1,
}

/// Milliseconds: enough for a connection over mTLS to another region, so that no timeout is held against the peer.
const LOOK_TIMEOUT: u32 = 5000;
/// Each that fails is one in which another worker changed the value, and most proxies have fewer workers.
const TRIES: u8 = 32;
const OK: u32 = 0;
const BAD_ARGUMENT: u32 = 2;
const INTERNAL_FAILURE: u32 = 10;
const PLUGIN_CONFIGURATION: u32 = 7;
/// The number of no write. Envoy compares numbers only where there is a value (`SharedData::set` of
/// proxy-wasm-cpp-host), so a write with this one succeeds only where there is none: it makes a first write atomic. Envoy
/// counts its writes from 1, and would come to it after four billion.
pub const NO_WRITE: u32 = u32::MAX;

/// Bytes that the host had this VM allocate, by `call(&mut data, &mut len) == OK`.
fn bytes(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Option<Vec<u8>> {
    let (mut data, mut len): (*mut u8, usize) = (null_mut(), 0);
    if call(&raw mut data, &raw mut len) != OK {
        return None;
    }
    if data.is_null() {
        return Some(Vec::new());
    }
    // SAFETY: the host got `data` from this module's own `proxy_on_memory_allocate`, asked for exactly `len` bytes, which
    // the SDK serves from a Vec of that capacity, and hands it over.
    Some(unsafe { Vec::from_raw_parts(data, len, len) })
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Writes to Envoy's log, as one line of bounded length whatever is in it. One that cannot be written is lost: there is
/// nobody to tell.
fn line_at(level: u32, text: &str) {
    let line = line(text);
    // SAFETY: pointer and length are of one live string.
    let _ = unsafe { proxy_log(level, line.as_ptr(), line.len()) };
}

/// The plugin's configuration, of `size` bytes; empty where there is none.
pub fn configuration(size: usize) -> Vec<u8> {
    // SAFETY: `bytes` gives pointers to its own live variables.
    bytes(|data, len| unsafe { proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, size, data, len) })
        .unwrap_or_default()
}

/// A header's value, or nothing where it is absent.
#[inline(never)]
pub fn header(map: Map, name: &str) -> Option<String> {
    // SAFETY: pointer and length are of one live string; the others are `bytes`'s own.
    bytes(|value, size| unsafe {
        proxy_get_header_map_value(map as u32, name.as_ptr(), name.len(), value, size)
    })
    .map(text)
}

/// Sets a header, instead of any of that name. False where the host refused.
pub fn set_header(map: Map, name: &str, value: &str) -> bool {
    // SAFETY: pointers and lengths are of live strings.
    OK == unsafe {
        proxy_replace_header_map_value(
            map as u32,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    }
}

/// Removes a header that is there: to remove one that is not costs a route selection all the same.
pub fn remove_header(map: Map, name: &str) {
    // SAFETY: pointer and length are of one live string. A failure leaves the header, which no one can mend here.
    let _ = unsafe { proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) };
}

/// A property as text, or nothing where it is absent or has no text form.
#[inline(never)]
pub fn property(property: Property) -> Option<String> {
    let path = property.0;
    // SAFETY: pointer and length are of one static string; the others are `bytes`'s own.
    bytes(|value, size| unsafe { proxy_get_property(path.as_ptr(), path.len(), value, size) })
        .map(text)
}

/// A property that is a number; 0 where it is absent.
#[inline(never)]
pub fn number(property: Property) -> u64 {
    let path = property.0;
    // SAFETY: as above.
    bytes(|value, size| unsafe { proxy_get_property(path.as_ptr(), path.len(), value, size) })
        .and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)))
        .unwrap_or(0)
}

/// Whether a property is there.
#[inline(never)]
pub fn has_property(property: Property) -> bool {
    let path = property.0;
    // SAFETY: as above. The bytes are dropped.
    bytes(|value, size| unsafe { proxy_get_property(path.as_ptr(), path.len(), value, size) })
        .is_some_and(|value| !value.is_empty())
}

/// Sets a property of the stream, which access logs see as filter state. A failure costs the log field, no more.
pub fn set_property(name: &str, value: &str) {
    // SAFETY: pointers and lengths are of live strings.
    let _ = unsafe { proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
}

/// Writes a first value under a shared key, if there is none, for exactly one of those who try at once. False where there
/// is one.
#[inline(never)]
pub fn prepare(key: &str, value: &[u8]) -> bool {
    set_shared(key, value, NO_WRITE)
}

/// Writes a text under a shared key, over whatever is there. One that cannot be written stays as it was.
pub fn remember(key: &str, value: &str) {
    remember_bytes(key, value.as_bytes());
}

/// As [`remember`].
pub fn remember_bytes(key: &str, value: &[u8]) {
    set_shared(key, value, 0);
}

/// The bytes under a shared key, or nothing where there are none.
pub fn recall_bytes(key: &str) -> Option<Vec<u8>> {
    shared(key).map(|(value, _)| value)
}

/// The text under a shared key, or nothing where there is none.
pub fn recall(key: &str) -> Option<String> {
    shared(key).map(|(value, _)| text(value))
}

/// The value under a shared key, and the number of its write, by which [`write_again`] knows whether it changed meanwhile.
#[inline(never)]
pub fn shared(key: &str) -> Option<(Vec<u8>, u32)> {
    let mut cas = 0;
    // SAFETY: pointer and length are of one live string; `cas` is a live variable; the others are `bytes`'s own.
    let value = bytes(|value, size| unsafe {
        proxy_get_shared_data(key.as_ptr(), key.len(), value, size, &raw mut cas)
    })?;
    Some((value, cas))
}

/// Writes a shared value if it is still that of `cas`; over whatever is there where `cas` is 0. False where it was not
/// written.
#[inline(never)]
fn set_shared(key: &str, value: &[u8], cas: u32) -> bool {
    // SAFETY: pointers and lengths are of live slices.
    OK == unsafe {
        proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas)
    }
}

/// Defines a metric: one of the process, whichever VM defines it. Nothing where the host refuses.
pub fn metric(kind: Kind, name: &str) -> Option<Metric> {
    let mut id = 0;
    // SAFETY: pointer and length are of one live string; `id` is a live variable.
    (OK == unsafe { proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &raw mut id) })
        .then_some(id)
}

/// Adds to a metric, atomically across workers. False where the host refused: nothing was added.
pub fn add(metric: Metric, n: i64) -> bool {
    // SAFETY: no pointers.
    OK == unsafe { proxy_increment_metric(metric, n) }
}

/// Sets a gauge. A failure is seen by its absence.
pub fn record(metric: Metric, value: u64) {
    // SAFETY: no pointers.
    let _ = unsafe { proxy_record_metric(metric, value) };
}

/// Reads a metric as Envoy holds it.
pub fn read(metric: Metric) -> Option<u64> {
    let mut value = 0;
    // SAFETY: `value` is a live variable.
    (OK == unsafe { proxy_get_metric(metric, &raw mut value) }).then_some(value)
}

/// Makes the calls that follow concern this context. False where it is not there any more.
pub fn set_effective_context(id: u32) -> bool {
    // SAFETY: no pointers.
    OK == unsafe { proxy_set_effective_context(id) }
}

/// How often `on_tick` is called.
pub fn set_tick_period(period: Duration) {
    let millis = u32::try_from(period.as_millis()).unwrap_or(u32::MAX);
    // SAFETY: no pointers. Without ticks there are no sweeps and no heartbeat, and requests flow all the same.
    let _ = unsafe { proxy_set_tick_period_milliseconds(millis) };
}

/// No more calls of `on_tick`.
pub fn stop_ticks() {
    // SAFETY: no pointers. Where they go on, there is nothing to do in them.
    let _ = unsafe { proxy_set_tick_period_milliseconds(0) };
}

/// Unix time in nanoseconds; 0 where the host has none.
pub fn now_nanos() -> u64 {
    let mut nanos = 0;
    // SAFETY: `nanos` is a live variable.
    let status = unsafe { proxy_get_current_time_nanoseconds(&raw mut nanos) };
    if status == OK { nanos } else { 0 }
}

/// Unix time in seconds; 0 where the host has none.
pub fn now() -> u64 {
    now_nanos() / 1_000_000_000
}

/// Changes a shared value, whatever other workers do to it meanwhile: `to` gives the new value for the old, which is empty if
/// none was written yet; it may be asked again. False if it gives none, or if others changed the value [`TRIES`] times.
pub fn exchange_bytes(key: &str, to: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>) -> bool {
    for _ in 0..TRIES {
        let (before, cas) = shared(key).unwrap_or((Vec::new(), NO_WRITE));
        let Some(after) = to(&before) else {
            return false;
        };
        if set_shared(key, &after, cas) {
            return true;
        }
    }
    false
}

/// Writes a shared value if that there still has the number that [`shared`] gave, or if there is none. True for one only of
/// several that read the same.
pub fn write_again(key: &str, bytes: &[u8], number: Option<u32>) -> bool {
    set_shared(key, bytes, number.unwrap_or(NO_WRITE))
}

/// Now, of the one clock of all decisions; the beginning of time where the host has none.
pub fn monotonic() -> Instant {
    const MONOTONIC: u32 = 1;
    let mut nanos = 0;
    // SAFETY: `nanos` is a live variable.
    let status = unsafe { clock_time_get(MONOTONIC, 0, &raw mut nanos) };
    Instant(if status == 0 { nanos / 1_000_000 } else { 0 })
}

/// Whether Envoy knows a cluster of this name, or nothing where it cannot be told.
///
/// The ABI has no such question. A call to the cluster is one: Envoy refuses it as a bad argument where there is no such
/// cluster. The call itself goes nowhere: a CONNECT with a path and without `:protocol` is none that Envoy's codecs
/// encode, so it ends in this proxy, after it opened a connection at most. Nobody waits for its answer: the shipped module
/// does not export `proxy_on_http_call_response` (in one that does, the SDK would trap on an answer it did not ask for).
pub fn knows_cluster(cluster: &str) -> Option<bool> {
    let headers = header_map(&[
        (":method", "CONNECT"),
        (":path", "/"),
        (":authority", cluster),
    ]);
    let (none, mut token) = (header_map(&[]), 0);
    // SAFETY: pointers and lengths are of live slices; `token` is a live variable.
    let status = unsafe {
        proxy_http_call(
            cluster.as_ptr(),
            cluster.len(),
            headers.as_ptr(),
            headers.len(),
            null_mut(),
            0,
            none.as_ptr(),
            none.len(),
            LOOK_TIMEOUT,
            &raw mut token,
        )
    };
    match status {
        OK | INTERNAL_FAILURE => Some(true),
        BAD_ARGUMENT => Some(false),
        _ => None,
    }
}

/// The ABI's form of a header map: the number of entries, the lengths, then the texts, each ended by NUL.
fn header_map(entries: &[(&str, &str)]) -> Vec<u8> {
    let number = |n: usize| u32::try_from(n).unwrap_or(0).to_le_bytes();
    let mut out = number(entries.len()).to_vec();
    for (name, value) in entries {
        out.extend(number(name.len()));
        out.extend(number(value.len()));
    }
    for text in entries.iter().flat_map(|(name, value)| [name, value]) {
        out.extend(text.as_bytes());
        out.push(0);
    }
    out
}

/// Answers the request from here. `details` are Envoy's response code details; Envoy makes a gRPC answer of it where the
/// request was gRPC. False where the host refused.
pub fn reply(status: u32, details: &str, body: &str) -> bool {
    let no_headers = header_map(&[]);
    // SAFETY: pointers and lengths are of live slices.
    OK == unsafe {
        proxy_send_local_response(
            status,
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            no_headers.as_ptr(),
            no_headers.len(),
            -1,
        )
    }
}
