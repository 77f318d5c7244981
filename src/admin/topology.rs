// SPDX-License-Identifier: Apache-2.0
//! `/topology`: who calls whom through this Remora.

use serde::{Deserialize, Serialize};

/// What runs through one Remora.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopologyView {
    /// Remora's version.
    pub version: String,
    /// Addresses of this host, the published one first.
    pub hosts: Vec<String>,
    /// How long it has been counting, in seconds: since the process started.
    pub counted_for_s: u64,
    /// Applications at its doors.
    pub applications: Vec<ApplicationView>,
    /// Calls of applications here, by service.
    pub out: Vec<OutView>,
    /// Calls to applications here, by service.
    #[serde(rename = "in")]
    pub into: Vec<InView>,
    /// Calls of callers that are not listed because there are too many of them.
    pub others: u64,
    /// Services that are left out here because of the limit; those with the most calls are shown.
    pub left_out: u64,
}

/// An application at a door.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationView {
    /// Its name; empty while unknown.
    pub application: String,
    /// Framework and version; empty while unknown.
    pub framework: String,
    /// Which door.
    pub facade: String,
    /// Its end of the connection.
    pub peer: String,
    /// What it publishes.
    pub publishes: u64,
    /// What it follows.
    pub follows: u64,
}

/// A service that applications here call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutView {
    /// Service key; empty for calls whose service could not be read.
    pub service: String,
    /// Protocol.
    pub protocol: String,
    /// Who calls.
    pub consumers: Vec<CallerView>,
    /// Where the calls go.
    pub instances: Vec<CalleeView>,
    /// Calls for which there was no instance.
    pub unplaced: u64,
}

/// A service that is called here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InView {
    /// Service key; empty for calls whose service could not be read.
    pub service: String,
    /// Protocol.
    pub protocol: String,
    /// The application that provides it; empty if it is not at a door now.
    pub application: String,
    /// Framework and version.
    pub framework: String,
    /// Where it listens.
    pub address: String,
    /// Where others call it: our ingress port.
    pub ingress: u16,
    /// Who calls.
    pub consumers: Vec<CallerView>,
}

/// A caller of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallerView {
    /// Its name; empty if nothing tells.
    pub application: String,
    /// Framework and version, of applications at a door here.
    pub framework: String,
    /// What the name is from: `frame` (its calls say it), `follows` (the one application here that follows the service),
    /// `several` (one of those named), `unknown`.
    pub known_by: String,
    /// Where it is.
    pub host: String,
    /// Calls.
    pub calls: u64,
    /// Since the last one, in seconds; absent if there was none.
    pub last_s: Option<u64>,
}

/// An instance that is called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalleeView {
    /// Where calls go.
    pub address: String,
    /// The application; empty if the registry does not tell.
    pub application: String,
    /// Framework and version; empty if the registry does not tell.
    pub framework: String,
    /// `remora` (another one's ingress), `direct` (the provider's own port), `local` (an application of this host), `gone` (not
    /// in the registry any more).
    pub through: String,
    /// Calls sent to it, further attempts too.
    pub calls: u64,
    /// Those that ended without the application's own answer.
    pub errors: u64,
    /// Since the last one, in seconds; absent if there was none.
    pub last_s: Option<u64>,
}

/// What a page is asked for, from the part of an address behind `?`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only services whose key has this text in it.
    pub service: Option<String>,
    /// Only what this application publishes, provides, follows or calls.
    pub application: Option<String>,
    /// At most so many services.
    pub limit: Option<usize>,
    /// The first so many are left out.
    pub offset: usize,
    /// Also what was never called.
    pub all: bool,
}

/// A query that says something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot be asked for; allowed: service=TEXT application=NAME limit=NUMBER offset=NUMBER all=true")]
pub struct FilterError(String);

impl FilterError {
    /// Short and fixed.
    pub fn reason(&self) -> &'static str {
        "query"
    }
}

impl Filter {
    /// Reads a query.
    ///
    /// # Errors
    /// With the part that is none of the allowed ones.
    pub fn parse(query: &str) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let wrong = || FilterError(part.chars().take(MAX_SHOWN).collect());
            let (key, value) = part.split_once('=').ok_or_else(wrong)?;
            let value = remora_naming::dubbo_url::decode_component(value).map_err(|_| wrong())?;
            match key {
                "service" => filter.service = Some(value),
                "application" => filter.application = Some(value),
                "limit" => filter.limit = Some(value.parse().map_err(|_| wrong())?),
                "offset" => filter.offset = value.parse().map_err(|_| wrong())?,
                "all" => filter.all = value.parse().map_err(|_| wrong())?,
                _ => return Err(wrong()),
            }
        }
        Ok(filter)
    }

    /// As the part behind `?`; empty if nothing is asked for.
    pub fn query(&self) -> String {
        let encode = |text: &String| remora_naming::dubbo_url::encode_component(text);
        let parts = [
            self.service.as_ref().map(|text| format!("service={}", encode(text))),
            self.application
                .as_ref()
                .map(|text| format!("application={}", encode(text))),
            self.limit.map(|limit| format!("limit={limit}")),
            (self.offset > 0).then(|| format!("offset={}", self.offset)),
            self.all.then(|| "all=true".to_owned()),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join("&")
    }

    /// Whether a service is asked for.
    pub fn has_service(&self, service: &str) -> bool {
        self.service.as_ref().is_none_or(|text| service.contains(text.as_str()))
    }

    /// Whether one of these applications is asked for.
    pub fn has_application<'a>(&self, mut applications: impl Iterator<Item = &'a str>) -> bool {
        self.application
            .as_ref()
            .is_none_or(|name| applications.any(|application| application == name))
    }
}

/// Of a query that is answered with an error, so much is repeated.
const MAX_SHOWN: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_back_as_it_was_asked() {
        let filter = Filter {
            service: Some("blue/demo.Echo:1.0 & more".to_owned()),
            application: Some("shop".to_owned()),
            limit: Some(20),
            offset: 40,
            all: true,
        };
        assert_eq!(Filter::parse(&filter.query()), Ok(filter));
        assert_eq!(Filter::parse(""), Ok(Filter::default()));
    }

    #[test]
    fn a_query_that_means_something_else_is_named() {
        for query in ["limit=many", "servise=a", "service", "service=%zz"] {
            let error = Filter::parse(query).unwrap_err().to_string();
            assert!(error.contains(query) && error.contains("limit=NUMBER"), "{error}");
        }
    }
}
