//! What is shipped: the exports, the size, the same bytes twice; and the policy on bare WebAssembly.

use std::fs;

use xtask::{exports, filter, policy, target_dir, unused, workspace_root};

type Outcome = anyhow::Result<()>;

#[test]
fn the_module_exports_what_envoy_must_call_and_nothing_else() -> Outcome {
    let module = fs::read(filter::ensure()?)?;
    assert_eq!(exports::names(&module)?, exports::KEPT);
    Ok(())
}

#[test]
fn the_module_is_small_enough_to_ship() -> Outcome {
    let bytes = fs::metadata(filter::ensure()?)?.len();
    assert!(bytes <= filter::MOST_BYTES as u64, "{bytes} bytes");
    Ok(())
}

#[test]
fn two_builds_give_the_same_bytes() -> Outcome {
    let shipped = fs::read(filter::ensure()?)?;
    let again = filter::compile(&workspace_root(), &target_dir().join("filter-again"), &[])?;
    assert_eq!(
        filter::sha256(&shipped),
        filter::sha256(&filter::finish(&again)?)
    );
    Ok(())
}

/// What traps on demand is in its own build, and nowhere else.
#[test]
fn what_is_shipped_does_not_trap_on_demand() -> Outcome {
    let asks = |module: &[u8]| module.windows(6).any(|bytes| bytes == b"x-trap");
    assert!(asks(&fs::read(filter::ensure_with_traps()?)?));
    assert!(!asks(&fs::read(filter::ensure()?)?));
    Ok(())
}

/// Changed anywhere, it is another one, and one that has no place for its id, or has one already, is not shipped.
#[test]
fn a_module_has_one_build_id_which_is_its_own() -> Outcome {
    let shipped = fs::read(filter::ensure()?)?;
    let before = "filter/wasm32-wasip1/filter/peer_spillover.optimised.wasm";
    let mut before = fs::read(target_dir().join(before))?;
    assert_eq!(filter::identify(before.clone())?, shipped);
    // A custom section of no name.
    before.extend([0, 1, 0]);
    let other = filter::identify(before)?;
    assert_ne!(other[..shipped.len()], shipped[..]);
    assert!(filter::identify(other).is_err());
    Ok(())
}

#[test]
fn the_policy_makes_no_hostcall_and_passes_its_tests_without_a_host() -> Outcome {
    policy::test_on_bare_wasm()
}

/// A list that is out of date stops the build: a function that is called by another name now would be back in the module.
#[test]
fn a_module_without_a_function_that_is_to_be_taken_out_is_not_built() -> Outcome {
    filter::ensure()?;
    let raw = target_dir().join("filter/wasm32-wasip1/filter/peer_spillover.wasm");
    let trapped = unused::trap(&fs::read(raw)?)?;
    // Another module has none of them.
    let other = "filter/wasm32-wasip1/filter/peer_spillover.optimised.wasm";
    assert!(unused::trap(&fs::read(target_dir().join(other))?).is_err());
    // The names of functions are still there, so all are found once more.
    assert_eq!(unused::trap(&trapped)?, trapped);
    Ok(())
}
