//! The declaration of everything that a configuration may say.

pub mod checked;
pub mod plugin;
pub mod policy;
