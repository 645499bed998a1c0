//! The module's exports: only what Envoy has to call.
//!
//! Envoy calls every callback that a module exports, and the SDK exports them all. Each costs a crossing into the VM, and
//! those for bodies one for every chunk, so half of what an empty filter costs is callbacks that it does not use.

use anyhow::{Context, Result};
use wasm_encoder::{ExportKind, ExportSection, Module, RawSection};
use wasmparser::{ExternalKind, Parser, Payload};

/// What stays exported. `proxy_on_done` and `proxy_on_log` are not needed: a ticket is released when the context is
/// deleted. `proxy_on_http_call_response` must not be here: the SDK traps on an answer that it did not ask for.
pub const KEPT: &[&str] = &[
    "_initialize",
    "memory",
    "proxy_abi_version_0_2_1",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_delete",
    "proxy_on_memory_allocate",
    "proxy_on_request_headers",
    "proxy_on_response_headers",
    "proxy_on_response_trailers",
    "proxy_on_tick",
    "proxy_on_vm_start",
];

/// Whether `wasm` begins as a WebAssembly module does.
pub fn is_module(wasm: &[u8]) -> bool {
    Parser::is_core_wasm(wasm)
}

/// `wasm` without the exports that are not in [`KEPT`].
/// # Errors
/// It is no WebAssembly module.
pub fn prune(wasm: &[u8]) -> Result<Vec<u8>> {
    let mut module = Module::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.context("not a WebAssembly module")?;
        if let Payload::ExportSection(reader) = payload {
            let mut section = ExportSection::new();
            for export in reader {
                let export = export.context("the export section is broken")?;
                if KEPT.contains(&export.name) {
                    let kind = match export.kind {
                        ExternalKind::Memory => ExportKind::Memory,
                        ExternalKind::Table => ExportKind::Table,
                        ExternalKind::Global => ExportKind::Global,
                        _ => ExportKind::Func,
                    };
                    section.export(export.name, kind, export.index);
                }
            }
            module.section(&section);
        } else if let Some((id, range)) = payload.as_section() {
            let (start, end) = (usize::try_from(range.start)?, usize::try_from(range.end)?);
            let data = wasm.get(start..end).context("a section is cut off")?;
            module.section(&RawSection { id, data });
        }
    }
    Ok(module.finish())
}

/// The names that `wasm` exports, in order of the alphabet.
/// # Errors
/// It is no WebAssembly module.
pub fn names(wasm: &[u8]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        if let Payload::ExportSection(reader) = payload.context("not a WebAssembly module")? {
            for export in reader {
                names.push(
                    export
                        .context("the export section is broken")?
                        .name
                        .to_owned(),
                );
            }
        }
    }
    names.sort();
    Ok(names)
}
