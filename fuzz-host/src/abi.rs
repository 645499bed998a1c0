//! Both sides of the ABI: the hostcalls that the filter and its SDK import, and the callbacks that they export.
//!
//! The hostcalls that the filter does not make, but that the SDK's traits mention, are here as well, so that all links;
//! a case in which one of them is called has failed.

// The one place that needs it: the ABI is C, and its names are not to be mangled.
#![allow(unsafe_code)]

use std::io::Write;
use std::process;

use crate::case::{Case, seat, stand_up};
use crate::host::{Answer, OK, status};
use crate::world::World;

/// The status of a hostcall by a thread that is no VM's.
const INTERNAL_FAILURE: u32 = 10;

unsafe extern "C" {
    pub(crate) safe fn _initialize();
    safe fn proxy_on_memory_allocate(size: usize) -> *mut u8;
    pub(crate) safe fn proxy_on_context_create(id: u32, root: u32);
    pub(crate) safe fn proxy_on_vm_start(id: u32, size: usize) -> bool;
    pub(crate) safe fn proxy_on_configure(id: u32, size: usize) -> bool;
    pub(crate) safe fn proxy_on_tick(id: u32);
    pub(crate) safe fn proxy_on_request_headers(id: u32, count: usize, end: bool) -> u32;
    pub(crate) safe fn proxy_on_request_body(id: u32, size: usize, end: bool) -> u32;
    pub(crate) safe fn proxy_on_request_trailers(id: u32, count: usize) -> u32;
    pub(crate) safe fn proxy_on_response_headers(id: u32, count: usize, end: bool) -> u32;
    pub(crate) safe fn proxy_on_response_body(id: u32, size: usize, end: bool) -> u32;
    pub(crate) safe fn proxy_on_response_trailers(id: u32, count: usize) -> u32;
    pub(crate) safe fn proxy_on_done(id: u32) -> bool;
    pub(crate) safe fn proxy_on_log(id: u32);
    pub(crate) safe fn proxy_on_delete(id: u32);
}

/// Ends the process with a report: a callback that has gone wrong cannot be left.
pub fn fatal(case: &Case, what: &str) -> ! {
    let seed = case.seed;
    let report = format!(
        "\nFAILED: seed {seed}: {what}\n{}\n",
        crate::run::again(seed)
    );
    // Not by a macro: tests keep to themselves what those write.
    let _ = std::io::stderr().write_all(report.as_bytes());
    // What the thread keeps is dropped on the way out, which makes hostcalls.
    stand_up();
    process::exit(101)
}

/// A hostcall: lets others run before it, where that was drawn, then does it.
fn call<T>(
    name: &str,
    what: &[u8],
    make: impl FnOnce(&mut World, usize) -> Answer<T>,
) -> Answer<T> {
    let (case, me) = seat().ok_or(INTERNAL_FAILURE)?;
    let other = case.world().interrupted(me);
    if let Some(other) = other {
        case.pass(me, other);
    }
    let mut world = case.world();
    // It has trapped in this callback, and what is left of it never happens.
    if world.vms[me].dead {
        return Err(INTERNAL_FAILURE);
    }
    if let Err(endless) = world.hostcall(me) {
        drop(world);
        fatal(&case, &endless);
    }
    let answer = make(&mut world, me);
    world.tell(|| {
        let what = String::from_utf8_lossy(what).replace('\0', ".");
        let status = answer.as_ref().err().unwrap_or(&OK);
        format!("  vm {me}   {name} {what:.300}: {status}")
    });
    answer
}

/// What a pointer and a length of the filter's stand for.
fn read<'a>(data: *const u8, len: usize) -> &'a [u8] {
    if data.is_null() || len == 0 {
        return &[];
    }
    // SAFETY: the filter gives both of one slice, which lives for as long as the hostcall lasts; so do all that call this.
    unsafe { std::slice::from_raw_parts(data, len) }
}

/// Hands bytes over as Envoy does: in memory that the VM allocates, and as null where there are none.
fn give(answer: Answer<Vec<u8>>, data: *mut *mut u8, len: *mut usize) -> u32 {
    let bytes = match answer {
        Ok(bytes) => bytes,
        Err(status) => return status,
    };
    let mut to = std::ptr::null_mut();
    if !bytes.is_empty() {
        to = proxy_on_memory_allocate(bytes.len());
        // SAFETY: the VM has just allocated that many bytes there.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }
    put(data, to);
    put(len, bytes.len());
    OK
}

fn put<T>(to: *mut T, value: T) {
    // SAFETY: the filter gives the place of one of its variables, which lives for as long as the hostcall lasts.
    unsafe { to.write(value) };
}

fn put_some<T>(answer: Answer<Option<T>>, to: *mut T) -> u32 {
    answer.map_or_else(
        |status| status,
        |value| {
            if let Some(value) = value {
                put(to, value);
            }
            OK
        },
    )
}

#[unsafe(no_mangle)]
extern "C" fn proxy_log(level: u32, text: *const u8, len: usize) -> u32 {
    status(call("log", &[], |w, _| w.log(level, read(text, len))))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_get_buffer_bytes(
    kind: u32,
    start: usize,
    max: usize,
    data: *mut *mut u8,
    len: *mut usize,
) -> u32 {
    let answer = call("get_buffer_bytes", &[], |w, me| {
        w.get_buffer(me, kind, start, max)
    });
    give(answer, data, len)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_get_header_map_value(
    map: u32,
    key: *const u8,
    len: usize,
    value: *mut *mut u8,
    size: *mut usize,
) -> u32 {
    let key = read(key, len);
    let answer = call("get_header", key, |w, me| w.get_header(me, map, key));
    give(answer, value, size)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, len: *mut usize) -> u32 {
    let answer = call("get_headers", &[], |w, me| w.get_headers(me, map));
    give(answer, data, len)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_replace_header_map_value(
    map: u32,
    key: *const u8,
    len: usize,
    value: *const u8,
    size: usize,
) -> u32 {
    let (key, value) = (read(key, len), read(value, size));
    status(call("replace_header", key, |w, me| {
        w.set_header(me, map, key, Some(value))
    }))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_remove_header_map_value(map: u32, key: *const u8, len: usize) -> u32 {
    let key = read(key, len);
    status(call("remove_header", key, |w, me| {
        w.set_header(me, map, key, None)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_get_property(
    path: *const u8,
    len: usize,
    value: *mut *mut u8,
    size: *mut usize,
) -> u32 {
    let path = read(path, len);
    let answer = call("get_property", path, |w, me| w.get_property(me, path));
    give(answer, value, size)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_set_property(
    path: *const u8,
    len: usize,
    value: *const u8,
    size: usize,
) -> u32 {
    let (path, value) = (read(path, len), read(value, size));
    status(call("set_property", path, |w, me| {
        w.set_property(me, path, value)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_get_shared_data(
    key: *const u8,
    len: usize,
    value: *mut *mut u8,
    size: *mut usize,
    cas: *mut u32,
) -> u32 {
    let key = read(key, len);
    match call("get_shared_data", key, |w, _| w.get_shared(key)) {
        Ok((bytes, number)) => {
            put(cas, number);
            give(Ok(bytes), value, size)
        }
        Err(status) => status,
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_set_shared_data(
    key: *const u8,
    len: usize,
    value: *const u8,
    size: usize,
    cas: u32,
) -> u32 {
    let (key, value) = (read(key, len), read(value, size));
    status(call("set_shared_data", key, |w, _| {
        w.set_shared(key, value, cas)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_define_metric(kind: u32, name: *const u8, len: usize, id: *mut u32) -> u32 {
    let name = read(name, len);
    let answer = call("define_metric", name, |w, me| {
        w.define_metric(me, kind, name)
    });
    put_some(answer.map(Some), id)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_get_metric(id: u32, value: *mut u64) -> u32 {
    let answer = call("get_metric", &[], |w, me| w.get_metric(me, id));
    put_some(answer, value)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_record_metric(id: u32, value: u64) -> u32 {
    status(call("record_metric", &[], |w, me| {
        w.record_metric(me, id, value)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_increment_metric(id: u32, offset: i64) -> u32 {
    status(call("increment_metric", &[], |w, me| {
        w.increment_metric(me, id, offset)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_set_effective_context(id: u32) -> u32 {
    status(call("set_effective_context", &[], |w, me| {
        w.set_effective_context(me, id)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_set_tick_period_milliseconds(period: u32) -> u32 {
    status(call("set_tick_period", &[], |w, me| {
        w.set_tick_period(me, period)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32 {
    put_some(call("get_current_time", &[], |w, _| w.clock(true)), time)
}

#[unsafe(no_mangle)]
extern "C" fn clock_time_get(clock: u32, _precision: u64, time: *mut u64) -> u16 {
    let answer = call("clock_time_get", &[], |w, _| w.clock(clock == 0));
    put_some(answer, time) as u16
}

#[unsafe(no_mangle)]
extern "C" fn proxy_http_call(
    cluster: *const u8,
    cluster_len: usize,
    _headers: *const u8,
    _headers_len: usize,
    _body: *const u8,
    _body_len: usize,
    _trailers: *const u8,
    _trailers_len: usize,
    _timeout: u32,
    token: *mut u32,
) -> u32 {
    let cluster = read(cluster, cluster_len);
    let answer = call("http_call", cluster, |w, _| w.http_call(cluster));
    put_some(answer.map(Some), token)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_send_local_response(
    _status: u32,
    _details: *const u8,
    _details_len: usize,
    _body: *const u8,
    _body_len: usize,
    _headers: *const u8,
    _headers_len: usize,
    _grpc_status: i32,
) -> u32 {
    status(call("send_local_response", &[], |w, me| w.reply(me)))
}

/// Hostcalls that are not modelled. Their arguments do not matter: nothing of them is read.
macro_rules! unexpected {
    ($($name:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $name() -> u32 {
                status(call(stringify!($name), &[], |w, _| {
                    w.fail(concat!(stringify!($name), " is not modelled by this host"));
                    Err(INTERNAL_FAILURE)
                }))
            }
        )*
    };
}

unexpected! {
    proxy_get_log_level proxy_set_buffer_bytes proxy_set_header_map_pairs
    proxy_add_header_map_value proxy_register_shared_queue proxy_resolve_shared_queue
    proxy_dequeue_shared_queue proxy_enqueue_shared_queue proxy_continue_stream proxy_close_stream
    proxy_grpc_call proxy_grpc_stream proxy_grpc_send proxy_grpc_cancel proxy_grpc_close
    proxy_get_status proxy_call_foreign_function proxy_done
}
