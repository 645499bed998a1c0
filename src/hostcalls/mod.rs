//! All hostcalls, and what each returns if it fails. Nothing here panics, whatever status the host returns.
//!
//! The `hostcalls` of the SDK panic on a status that they do not expect. A panic is a trap, which ends the VM and every request
//! of that worker. So the few hostcalls that the filter needs are declared here, with the signatures of Proxy-Wasm ABI 0.2.1.
//! The cost of each was measured on Envoy in instructions: a call that returns bytes costs 10k, since the host calls back into
//! the VM to allocate them, an absent header costs 2.7k, a read of a metric 2.3k, and an addition to one 0.8k. Functions that
//! are called from many places are not inlined, which makes the module 2,000 bytes smaller.

// The only module that needs unsafe code: the ABI is that of C.
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

/// The id of a metric in this VM.
pub type Metric = u32;

/// A header map.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Map {
    /// The headers of the request.
    Request = 0,
    /// The headers of the response.
    Response = 2,
    /// The trailers of the response.
    ResponseTrailers = 3,
}

/// The kind of a metric.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Kind {
    /// It only grows.
    Counter = 0,
    /// It grows and shrinks.
    Gauge = 1,
}

/// In milliseconds. It is enough for a connection over mTLS to another region, so that no timeout counts against the peer.
const LOOK_TIMEOUT: u32 = 5000;
/// An attempt fails only if another worker changed the value at the same time, and most proxies have fewer workers than this.
const TRIES: u8 = 32;
const OK: u32 = 0;
const BAD_ARGUMENT: u32 = 2;
const INTERNAL_FAILURE: u32 = 10;
const PLUGIN_CONFIGURATION: u32 = 7;
/// A number that no write has. Envoy compares the numbers only if there is a value (`SharedData::set` of proxy-wasm-cpp-host).
/// So a write with this number succeeds only if there is no value, which makes a first write atomic. Envoy counts its writes
/// from 1, and would reach this number after four billion.
pub const NO_WRITE: u32 = u32::MAX;

/// The bytes that the host has allocated in this VM. `call(&mut data, &mut len)` returns the status.
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

/// Writes a line to Envoy's log. It is one line of bounded length whatever the text contains. A failure is ignored, since there
/// is no way to report it.
fn line_at(level: u32, text: &str) {
    let line = line(text);
    // SAFETY: pointer and length are of one live string.
    let _ = unsafe { proxy_log(level, line.as_ptr(), line.len()) };
}

/// The plugin's configuration, which has `size` bytes. It is empty if there is none.
pub fn configuration(size: usize) -> Vec<u8> {
    // SAFETY: `bytes` gives pointers to its own live variables.
    bytes(|data, len| unsafe { proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, size, data, len) })
        .unwrap_or_default()
}

/// The value of a header. `None` if it is absent.
#[inline(never)]
pub fn header(map: Map, name: &str) -> Option<String> {
    // SAFETY: pointer and length are of one live string; the others are `bytes`'s own.
    bytes(|value, size| unsafe {
        proxy_get_header_map_value(map as u32, name.as_ptr(), name.len(), value, size)
    })
    .map(text)
}

/// All headers of the request, as [`policy::spill::Headers`] reads them. It is empty if the host refuses.
#[inline(never)]
pub fn request_headers() -> Vec<u8> {
    let map = Map::Request as u32;
    // SAFETY: the pointers are `bytes`'s own.
    bytes(|data, len| unsafe { proxy_get_header_map_pairs(map, data, len) }).unwrap_or_default()
}

/// Sets a header, and replaces any of the same name. Returns false if the host refused.
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

/// Removes a header that is present. To remove an absent one would select the route again all the same.
pub fn remove_header(map: Map, name: &str) {
    // SAFETY: pointer and length are of one live string. A failure leaves the header, which no one can mend here.
    let _ = unsafe { proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) };
}

/// A property as text. `None` if it is absent or is not text.
#[inline(never)]
pub fn property(property: Property) -> Option<String> {
    let path = property.0;
    // SAFETY: pointer and length are of one static string; the others are `bytes`'s own.
    bytes(|value, size| unsafe { proxy_get_property(path.as_ptr(), path.len(), value, size) })
        .map(text)
}

/// A property that is a number. It is 0 if the property is absent.
#[inline(never)]
pub fn number(property: Property) -> u64 {
    let path = property.0;
    // SAFETY: as above.
    bytes(|value, size| unsafe { proxy_get_property(path.as_ptr(), path.len(), value, size) })
        .and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)))
        .unwrap_or(0)
}

/// Whether a property is present.
#[inline(never)]
pub fn has_property(property: Property) -> bool {
    let path = property.0;
    // SAFETY: as above. The bytes are dropped.
    bytes(|value, size| unsafe { proxy_get_property(path.as_ptr(), path.len(), value, size) })
        .is_some_and(|value| !value.is_empty())
}

/// Sets a property of the stream, which is filter state in access logs. A failure costs only the field in the log.
pub fn set_property(name: &str, value: &str) {
    // SAFETY: pointers and lengths are of live strings.
    let _ = unsafe { proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
}

/// Writes the first value under a key of shared data. If several VMs try this at once, exactly one succeeds. Returns false if
/// there is a value.
#[inline(never)]
pub fn prepare(key: &str, value: &[u8]) -> bool {
    set_shared(key, value, NO_WRITE)
}

/// Writes a text under a key of shared data, and replaces any value. A failure is ignored.
pub fn remember(key: &str, value: &str) {
    remember_bytes(key, value.as_bytes());
}

/// Writes bytes, as [`remember`] writes a text.
pub fn remember_bytes(key: &str, value: &[u8]) {
    set_shared(key, value, 0);
}

/// The bytes under a key of shared data. `None` if there are none.
pub fn recall_bytes(key: &str) -> Option<Vec<u8>> {
    shared(key).map(|(value, _)| value)
}

/// The text under a key of shared data. `None` if there is none.
pub fn recall(key: &str) -> Option<String> {
    shared(key).map(|(value, _)| text(value))
}

/// The value under a key of shared data, and the number of its last write, by which [`write_again`] finds whether it has
/// changed.
#[inline(never)]
pub fn shared(key: &str) -> Option<(Vec<u8>, u32)> {
    let mut cas = 0;
    // SAFETY: pointer and length are of one live string; `cas` is a live variable; the others are `bytes`'s own.
    let value = bytes(|value, size| unsafe {
        proxy_get_shared_data(key.as_ptr(), key.len(), value, size, &raw mut cas)
    })?;
    Some((value, cas))
}

/// Writes a value of shared data if its last write has the number `cas`, or in any case if `cas` is 0. Returns false if it was
/// not written.
#[inline(never)]
fn set_shared(key: &str, value: &[u8], cas: u32) -> bool {
    // SAFETY: pointers and lengths are of live slices.
    OK == unsafe {
        proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas)
    }
}

/// Defines a metric, which all VMs of the process share. `None` if the host refuses.
pub fn metric(kind: Kind, name: &str) -> Option<Metric> {
    let mut id = 0;
    // SAFETY: pointer and length are of one live string; `id` is a live variable.
    (OK == unsafe { proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &raw mut id) })
        .then_some(id)
}

/// Adds to a metric, atomically across workers. Returns false if the host refused, and then nothing was added.
pub fn add(metric: Metric, n: i64) -> bool {
    // SAFETY: no pointers.
    OK == unsafe { proxy_increment_metric(metric, n) }
}

/// Sets a gauge. A failure is ignored.
pub fn record(metric: Metric, value: u64) {
    // SAFETY: no pointers.
    let _ = unsafe { proxy_record_metric(metric, value) };
}

/// The value of a metric in Envoy. `None` if the host refuses.
pub fn read(metric: Metric) -> Option<u64> {
    let mut value = 0;
    // SAFETY: `value` is a live variable.
    (OK == unsafe { proxy_get_metric(metric, &raw mut value) }).then_some(value)
}

/// Lets the following hostcalls concern this context. Returns false if it does not exist any more.
pub fn set_effective_context(id: u32) -> bool {
    // SAFETY: no pointers.
    OK == unsafe { proxy_set_effective_context(id) }
}

/// Sets the time between two calls of `on_tick`.
pub fn set_tick_period(period: Duration) {
    let millis = u32::try_from(period.as_millis()).unwrap_or(u32::MAX);
    // SAFETY: no pointers. Without ticks there are no sweeps and no heartbeat, and requests flow all the same.
    let _ = unsafe { proxy_set_tick_period_milliseconds(millis) };
}

/// Stops the calls of `on_tick`.
pub fn stop_ticks() {
    // SAFETY: no pointers. Where they go on, there is nothing to do in them.
    let _ = unsafe { proxy_set_tick_period_milliseconds(0) };
}

/// Unix time in nanoseconds. It is 0 if the host has no clock.
pub fn now_nanos() -> u64 {
    let mut nanos = 0;
    // SAFETY: `nanos` is a live variable.
    let status = unsafe { proxy_get_current_time_nanoseconds(&raw mut nanos) };
    if status == OK { nanos } else { 0 }
}

/// A number that nobody can foresee, for a generator of random numbers. The host of a native test has its clock for it.
pub fn seed() -> u64 {
    #[cfg(target_arch = "wasm32")]
    if let Ok(seed) = getrandom::u64() {
        return seed;
    }
    now_nanos()
}

/// Unix time in seconds. It is 0 if the host has no clock.
pub fn now() -> u64 {
    now_nanos() / 1_000_000_000
}

/// Changes a value of shared data, whatever other workers do at the same time. `to` returns the new value for the old one,
/// which is empty if there is none. It may be called several times. Returns false if `to` returns `None`, or if other workers
/// changed the value in all of [`TRIES`] attempts.
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

/// Writes a value of shared data if its last write still has the number that [`shared`] returned, or if there is no value. If
/// several VMs have read the same number, only one of them succeeds.
pub fn write_again(key: &str, bytes: &[u8], number: Option<u32>) -> bool {
    set_shared(key, bytes, number.unwrap_or(NO_WRITE))
}

/// The time on the monotonic clock that all decisions use. It is the clock's beginning if the host has no clock.
pub fn monotonic() -> Instant {
    const MONOTONIC: u32 = 1;
    let mut nanos = 0;
    // SAFETY: `nanos` is a live variable.
    let status = unsafe { clock_time_get(MONOTONIC, 0, &raw mut nanos) };
    Instant(if status == 0 { nanos / 1_000_000 } else { 0 })
}

/// Whether Envoy knows a cluster with this name. `None` if that cannot be found out.
///
/// The ABI has no hostcall for this. Envoy refuses a call to a cluster that does not exist as a bad argument. The call itself
/// goes nowhere: Envoy's codecs cannot encode a CONNECT with a path and without `:protocol`, so it ends in this proxy, at most
/// after a connection was opened. Nothing waits for its answer: the shipped module does not export
/// `proxy_on_http_call_response`. (If it did, the SDK would trap on an answer to a call that it did not make.)
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

/// The ABI's form of a header map: the number of entries, the lengths, and then the texts, each with a NUL at its end.
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

/// Answers the request. `details` are Envoy's response code details. Envoy makes a gRPC answer of it if the request is gRPC.
/// Returns false if the host refused.
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
