// SPDX-License-Identifier: Apache-2.0
//! What a body may cost, and which of the two dialects it is written in.

/// Hard limits for one body. What passes them ends the walk with `TooDeep` or `TooMany`.
///
/// Counts that the wire announces need no limit of their own: none may exceed the bytes that are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Lists, maps and objects open inside each other, at most [`MAX_DEPTH`]; a larger number counts as that.
    /// Java readers have no limit and overflow their stack at some thousands.
    pub max_depth: usize,
    /// Class definitions in one body. Each costs 8 bytes of memory in a walk.
    pub max_classes: usize,
    /// Values in one body, those inside other values included.
    pub max_items: usize,
    /// Chunks of strings and binaries in one body; a value in one piece counts as none.
    /// Java writes 32 Ki characters or 8 KiB of binary per chunk, so the default lets 512 MiB pass.
    pub max_chunks: usize,
    /// Memory that [`decode`](crate::decode()) may take on top of the body, in bytes. A walk does not use it.
    pub max_decoded_bytes: usize,
}

/// The deepest nesting that a walk can follow: its stack has this many places.
pub const MAX_DEPTH: usize = 128;

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_depth: MAX_DEPTH,
            max_classes: 4096,
            max_items: 1 << 24,
            max_chunks: 1 << 16,
            max_decoded_bytes: 64 << 20,
        }
    }
}

/// Which grammar the leads follow. Nothing in a body tells the two apart: the protocol around it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// Hessian 2.0 as Dubbo's hessian-lite writes it, and sofa-hessian from 4.0 on.
    #[default]
    Hessian2,
    /// The older draft that sofa-hessian 3.x, and so SOFARPC and SOFARegistry, writes: class definitions are `O`,
    /// objects `o`, lists and maps end with `z`.
    Sofa,
}
