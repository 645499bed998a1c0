//! How the VMs of one process repair a count when one of them dies: which of them live ([`roster`], [`mark`]), and what each
//! has counted ([`index`]).

pub mod index;
pub mod mark;
pub mod roster;
