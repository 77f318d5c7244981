// SPDX-License-Identifier: Apache-2.0
//! Asks an instance for the metadata of its revision, the way a Dubbo 3 consumer does.

use std::sync::Arc;

use super::metadata::{MetadataCall, MetadataError};

/// The call of real life.
pub fn metadata_call() -> MetadataCall {
    Arc::new(|_, _, _| Box::pin(async { Err(MetadataError::Unsupported) }))
}
