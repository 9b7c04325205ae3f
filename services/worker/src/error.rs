//! Why an item has no output: a fault of its own, or the attempt was stopped before it was done.
//!
//! Guarantee: a fault carries a stable code and a sentence that says what to do, and says whether
//! another attempt would meet it again.

use photofinish_contract::announcement::ItemError;
use photofinish_model::{Code, Fault, ItemIndex};

/// A fault of one item.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", fault.code, fault.detail)]
pub struct ItemFault {
    /// What went wrong, as the client reads it.
    pub fault: Fault,
    /// True when another attempt would fail in the same way.
    pub permanent: bool,
}

impl ItemFault {
    /// A fault that another attempt would meet again.
    pub fn permanent(code: Code, detail: impl Into<String>) -> Self {
        Self {
            fault: Fault::new(code, detail),
            permanent: true,
        }
    }

    /// A fault that may be gone next time.
    pub fn transient(code: Code, detail: impl Into<String>) -> Self {
        Self {
            fault: Fault::new(code, detail),
            permanent: false,
        }
    }

    /// The fault as it is announced.
    pub fn of(self, index: ItemIndex) -> ItemError {
        ItemError {
            index,
            fault: self.fault,
            permanent: self.permanent,
        }
    }
}

/// Why work on an item ended without an output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// It cannot be done.
    #[error(transparent)]
    Fault(#[from] ItemFault),
    /// It was told to stop; nothing is said about the item.
    #[error("stopped")]
    Stopped,
}

impl Halt {
    /// Shorthand for a permanent fault.
    pub fn permanent(code: Code, detail: impl Into<String>) -> Self {
        ItemFault::permanent(code, detail).into()
    }

    /// Shorthand for a transient fault.
    pub fn transient(code: Code, detail: impl Into<String>) -> Self {
        ItemFault::transient(code, detail).into()
    }
}
