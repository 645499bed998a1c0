//! The declaration of everything that a configuration may contain.

pub mod checked;
pub mod plugin;
pub mod policy;
pub mod spill;
