//! The callbacks that Envoy makes.

use crate::abi;

/// A callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `proxy_on_context_create` of this context, of this root or of none.
    Create(u32, u32),
    /// `proxy_on_vm_start`.
    VmStart(u32),
    /// `proxy_on_configure`, with so many bytes.
    Configure(u32, usize),
    /// `proxy_on_tick`.
    Tick(u32),
    /// `proxy_on_request_headers`; whether that is all of it.
    RequestHeaders(u32, bool),
    /// `proxy_on_request_body`.
    RequestBody(u32),
    /// `proxy_on_request_trailers`.
    RequestTrailers(u32),
    /// `proxy_on_response_headers`; whether that is all of it.
    ResponseHeaders(u32, bool),
    /// `proxy_on_response_body`.
    ResponseBody(u32),
    /// `proxy_on_response_trailers`.
    ResponseTrailers(u32),
    /// `proxy_on_log`.
    Log(u32),
    /// `proxy_on_done`.
    Done(u32),
    /// `proxy_on_delete`.
    Delete(u32),
}

impl Call {
    pub fn context(self) -> u32 {
        match self {
            Call::Create(id, _)
            | Call::VmStart(id)
            | Call::Configure(id, _)
            | Call::Tick(id)
            | Call::RequestHeaders(id, _)
            | Call::RequestBody(id)
            | Call::RequestTrailers(id)
            | Call::ResponseHeaders(id, _)
            | Call::ResponseBody(id)
            | Call::ResponseTrailers(id)
            | Call::Log(id)
            | Call::Done(id)
            | Call::Delete(id) => id,
        }
    }

    /// Makes the callback; what it answers, 0 where it answers nothing.
    pub fn make(self) -> u32 {
        match self {
            Call::Create(id, root) => abi::proxy_on_context_create(id, root),
            Call::VmStart(id) => return abi::proxy_on_vm_start(id, 0).into(),
            Call::Configure(id, size) => return abi::proxy_on_configure(id, size).into(),
            Call::Tick(id) => abi::proxy_on_tick(id),
            Call::RequestHeaders(id, end) => return abi::proxy_on_request_headers(id, 9, end),
            Call::RequestBody(id) => return abi::proxy_on_request_body(id, 9, true),
            Call::RequestTrailers(id) => return abi::proxy_on_request_trailers(id, 1),
            Call::ResponseHeaders(id, end) => return abi::proxy_on_response_headers(id, 9, end),
            Call::ResponseBody(id) => return abi::proxy_on_response_body(id, 9, false),
            Call::ResponseTrailers(id) => return abi::proxy_on_response_trailers(id, 1),
            Call::Log(id) => abi::proxy_on_log(id),
            Call::Done(id) => return abi::proxy_on_done(id).into(),
            Call::Delete(id) => abi::proxy_on_delete(id),
        }
        0
    }
}
