// SPDX-License-Identifier: Apache-2.0
//! Metadata documents that a session wrote: their ports are ingress ports while what they tell of is taken over, and the
//! application's own again when it is not.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::door::Door;
use super::sent::Then;
use crate::wire::request::SetData;
use crate::wire::{Request, Text};

/// Metadata documents that a session wrote, by path.
#[derive(Debug, Default)]
pub(super) struct Documents(BTreeMap<String, Document>);

#[derive(Debug)]
struct Document {
    application: String,
    /// As the application wrote it, and as it stands.
    theirs: Bytes,
    ours: Bytes,
}

impl Documents {
    /// What stands is not known any more: it is written again at the next look.
    pub(super) fn doubt(&mut self) {
        for document in self.0.values_mut() {
            document.ours = Bytes::new();
        }
    }
}

impl Door {
    /// The application wrote a document; `ours` stands in its place.
    pub(super) fn remember_document(
        &mut self,
        path: String,
        application: &str,
        theirs: Option<Bytes>,
        ours: Option<&[u8]>,
    ) {
        let documents = &mut self.state.documents.0;
        let Some(theirs) = theirs.map(|theirs| Bytes::copy_from_slice(&theirs)) else {
            return;
        };
        if documents.len() < MAX_DOCUMENTS || documents.contains_key(&path) {
            let ours = ours.map_or_else(|| theirs.clone(), Bytes::copy_from_slice);
            let application = application.to_owned();
            documents.insert(
                path,
                Document {
                    application,
                    theirs,
                    ours,
                },
            );
        }
    }

    pub(super) fn documents_again(&mut self) {
        let mut documents = std::mem::take(&mut self.state.documents);
        for (path, document) in &mut documents.0 {
            let ours = self.outward_metadata(&document.theirs, &document.application);
            let ours = ours.map_or_else(|| document.theirs.clone(), Bytes::from);
            if ours != document.ours {
                document.ours = ours.clone();
                let request = Request::SetData(SetData {
                    path: Text::from(path.as_str()),
                    data: Some(ours),
                    version: ANY,
                });
                self.send_own(request, 0, None, Then::Ignore);
            }
        }
        self.state.documents = documents;
    }
}

const ANY: i32 = -1;
/// One for each revision; an application that writes ever new ones must not fill the memory.
const MAX_DOCUMENTS: usize = 1_000;
