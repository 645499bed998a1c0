//! What the linker keeps in the module, and nothing that Envoy calls ever comes to.
//!
//! The standard library's panic hook prints to a terminal, with a backtrace; the filter sets a hook of its own before anything
//! else runs, but the linker cannot know that. The SDK's dispatcher calls contexts through trait objects, and each of their
//! tables holds every method of the SDK's traits, its hostcalls included; the filter makes hostcalls of its own. So the bodies
//! of these functions are replaced by a trap, and the optimiser removes what only they need: 22,000 bytes of 231,000.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use rustc_demangle::demangle;
use wasm_encoder::{CodeSection, Function, Instruction, Module, RawSection};
use wasmparser::{KnownCustom, Name, Parser, Payload, TypeRef};

/// How the names of functions begin that are never called, without the brackets of an `impl`.
pub const UNUSED: &[&str] = &[
    "std::panicking::default_hook",
    "std::panic::get_backtrace_style",
    "std::sys::backtrace::BacktraceLock",
    "std::sys::stdio::",
    "std::io::",
    "alloc::vec::Vec<u8> as std::io::Write>::",
    "proxy_wasm::hostcalls::",
    "proxy_wasm::dispatcher::Dispatcher>::create_stream_context",
];

/// `wasm`, which has its names, with a trap as the body of each function of [`UNUSED`].
/// # Errors
/// It is no WebAssembly module, or has no function of one of these names: then the list is out of date.
pub fn trap(wasm: &[u8]) -> Result<Vec<u8>> {
    let (names, imported) = functions(wasm)?;
    let mut found = [false; UNUSED.len()];
    let mut unused = |nth: u32| {
        let name = names.get(&imported.saturating_add(nth));
        let rule = name.and_then(|name| UNUSED.iter().position(|rule| begins(name, rule)));
        rule.map(|rule| found[rule] = true).is_some()
    };
    let mut trap = Function::new([]);
    trap.instruction(&Instruction::Unreachable);
    trap.instruction(&Instruction::End);
    let (mut module, mut code) = (Module::new(), CodeSection::new());
    let (mut nth, mut bodies) = (0, 0);
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.context("not a WebAssembly module")? {
            Payload::CodeSectionStart { count, .. } => bodies = count,
            Payload::CodeSectionEntry(body) => {
                if unused(nth) {
                    code.function(&trap);
                } else {
                    code.raw(body.as_bytes());
                }
                nth += 1;
                if nth == bodies {
                    module.section(&code);
                }
            }
            other => {
                if let Some((id, range)) = other.as_section() {
                    let (start, end) = (usize::try_from(range.start)?, usize::try_from(range.end)?);
                    let data = wasm.get(start..end).context("a section is cut off")?;
                    module.section(&RawSection { id, data });
                }
            }
        }
    }
    for (rule, found) in UNUSED.iter().zip(found) {
        ensure!(
            found,
            "the module has no function {rule}: take it off the list, or name it as it is called now"
        );
    }
    Ok(module.finish())
}

/// The names of all functions by their index, and how many are imported: those come first.
fn functions(wasm: &[u8]) -> Result<(HashMap<u32, String>, u32)> {
    let (mut names, mut imported) = (HashMap::new(), 0);
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.context("not a WebAssembly module")? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import.context("the import section is broken")?;
                    imported += u32::from(matches!(import.ty, TypeRef::Func(_)));
                }
            }
            Payload::CustomSection(section) => {
                let KnownCustom::Name(subsections) = section.as_known() else {
                    continue;
                };
                for subsection in subsections {
                    let Name::Function(functions) = subsection.context("the names are broken")?
                    else {
                        continue;
                    };
                    for function in functions {
                        let function = function.context("the names are broken")?;
                        let name = format!("{:#}", demangle(function.name));
                        names.insert(function.index, name);
                    }
                }
            }
            _ => {}
        }
    }
    ensure!(!names.is_empty(), "the module has no names of functions");
    Ok((names, imported))
}

/// `<std::io::Stdout as …>` begins with `std::io::` too.
fn begins(name: &str, rule: &str) -> bool {
    name.trim_start_matches(['<', '&']).starts_with(rule)
}
