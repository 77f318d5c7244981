// SPDX-License-Identifier: Apache-2.0
//! Every finding that preflight has, once: its number, its name, how grave it is, what it says and what to do.
//!
//! `docs/preflight.md` explains each; a test compares. A number, once released, keeps its meaning.

use serde::{Serialize, Serializer};

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Takeover would break something, or not begin.
    NotReady,
    /// Something would behave otherwise than before, or is broken already.
    Warning,
    /// Good to know.
    Note,
}

macro_rules! codes {
    ($($name:ident = $number:literal $slug:literal $severity:ident: $title:literal => $advice:literal;)*) => {
        /// A kind of finding.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "each says what it is in `title`")]
        pub enum Code { $($name,)* }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// `P101`.
            pub fn number(self) -> &'static str {
                match self { $(Self::$name => $number,)* }
            }

            /// Its name, one word with hyphens.
            pub fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug,)* }
            }

            /// How grave it is.
            pub fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }

            /// What it says.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// What to do.
            pub fn advice(self) -> &'static str {
                match self { $(Self::$name => $advice,)* }
            }
        }
    };
}

codes! {
    AppOnOurPort = "P101" "application-on-our-port" NotReady:
        "an application listens on a port that a Remora beside it would need"
        => "give Remora another port on that host (protocols.NAME.ingress, protocols.NAME.egress, the door's listen), or move the application";
    PortTaken = "P102" "port-taken" NotReady:
        "a port that Remora needs is taken on this host"
        => "end what listens there (ss -ltnp names it), or give Remora another port; run preflight where Remora is to run, or with --no-host";
    ConnectionLimit = "P103" "connection-limit" NotReady:
        "the registry takes too few connections from one host"
        => "raise maxClientCnxns of every server: Remora keeps one session for each session of an application, and one of its own";
    Forbidden = "P104" "forbidden" NotReady:
        "these credentials may not read a part of the registry"
        => "name credentials that may, as zookeeper://user:password@host:port: a Remora that cannot read a list cannot take it over";
    RegistryFromConfigCentre = "P105" "registry-from-config-centre" NotReady:
        "settings in the config centre tell applications where their registry is"
        => "take dubbo.registry.* out of that node, or point it at Remora: it wins over what the application itself is told";
    RangeTooSmall = "P106" "ingress-range-too-small" NotReady:
        "a host has more applications than Remora has ingress ports"
        => "widen protocols.NAME.ingress_range";
    RuleNamesHosts = "P201" "rule-names-hosts" Warning:
        "a governance rule names provider hosts: applications behind Remora are not shown it, and Remora does not apply it"
        => "take the rule away, or write it with parameters or tags that do not name hosts, or leave the service out (takeover.deny)";
    RuleByParameter = "P202" "rule-by-parameter" Warning:
        "a rule picks providers by a parameter on which they differ: consumers are shown one provider without it, so the rule finds none"
        => "take the rule away, or leave the service out (takeover.deny), before its consumers are taken over";
    ProvidersDisagree = "P203" "providers-disagree" Warning:
        "providers of one service set different defaults for their consumers; behind Remora those of the newest count"
        => "make the providers agree, or set the value at the consumers";
    CallbackNotEverywhere = "P204" "callback-not-everywhere" Warning:
        "only some providers of a service declare a callback parameter; behind Remora consumers are not shown it"
        => "bring all providers to one version before their consumers are taken over";
    EveryProvider = "P205" "every-provider-at-once" Warning:
        "a consumer calls every provider, or several at once; behind Remora it is shown one, and calls one"
        => "leave the service out on the consumer side (takeover.deny with side: consumer)";
    ConsumerChooses = "P206" "consumer-chooses" Warning:
        "a consumer has its own way to choose a provider; behind Remora the choice is Remora's, by weight"
        => "check that nothing depends on the choice (caches, sticky sessions), or leave the service out on the consumer side";
    LimitPerProvider = "P207" "limit-per-provider" Warning:
        "a limit of calls per provider becomes one for all providers together"
        => "raise actives to the number wanted for the whole service, or take it away";
    TagOrToken = "P208" "tag-or-token" Warning:
        "consumers pick providers by tag or token: those are shown as they are, and calls to them go past Remora"
        => "nothing breaks; where these calls must go through Remora, give all providers of the service the same tag or token";
    Tls = "P209" "tls" Warning:
        "a provider wants TLS: it is passed on unchanged, and calls to it go past Remora"
        => "nothing breaks; turn ssl-enabled off for providers that are to be taken over";
    LoopbackPublished = "P210" "loopback-published" Warning:
        "a provider published an address that no other machine can dial"
        => "a Remora beside it publishes the machine's own address, so this becomes right; until then let the application publish its address (DUBBO_IP_TO_REGISTRY)";
    NameUnknown = "P211" "name-unknown" Warning:
        "a provider's host name cannot be resolved here, so a Remora on this host would not call it"
        => "put the name into DNS or the hosts file of every consumer's host, or publish an address";
    AddressRefused = "P212" "address-refused" Warning:
        "Remora does not dial such an address because a registry says so"
        => "correct what the provider publishes";
    AddressTwice = "P213" "address-twice" Warning:
        "one address stands twice in a list: an entry that an earlier run left, or two hosts with one address"
        => "find out which application holds each entry; the older one usually goes with its session";
    AddressOfTwo = "P214" "address-of-two-applications" Warning:
        "two applications publish the same address: one of them is not there (a container's own address, a copied setting)"
        => "let each publish an address that leads to it; behind Remora, set advertise on that host";
    NoSession = "P215" "entry-without-session" Warning:
        "an entry belongs to no session: it stays when its provider is gone"
        => "if nobody put it there on purpose (dynamic=false), delete it; a Remora beside its provider does not replace it";
    Unreadable = "P216" "entry-unreadable" Warning:
        "an entry cannot be read: nothing is done with it, and consumers may stumble over it today"
        => "delete it, or have its application publish it again";
    DocumentMissing = "P217" "document-missing" Warning:
        "an application's revision says that its services stand in the metadata centre, but they do not"
        => "start the application again, so that it writes them; until then consumers cannot use it, with or without Remora";
    Clock = "P218" "clock" Warning:
        "clocks differ"
        => "set the clock (NTP): warm-up of a provider is counted from its own time stamp";
    PastTheRegistry = "P219" "past-the-registry" Warning:
        "an application that runs says that it consumes a service, but is not written down as a consumer: it may call past the registry"
        => "look for url=, register=false or injvm at its reference: such calls cannot be taken over";
    SeveralRegistries = "P220" "several-registries" Warning:
        "an application publishes in several of these registries"
        => "give each registry an entry of its own under registries:, with a door for it, and point the application at both doors";
    NamesNothing = "P221" "takeover-names-nothing" Warning:
        "an entry of takeover.allow or takeover.deny names nothing that is there"
        => "correct the name; a pattern may end in *";
    OutsideRoots = "P222" "outside-roots" Warning:
        "a list stands outside the configured roots: the door passes it on as it is"
        => "add its root to facades.zookeeper.service_roots, or leave the key out";
    LeftOut = "P223" "left-out" Warning:
        "the registry holds more than preflight looks at"
        => "name a part of it (--only, or a path in the registry's address)";
    NobodyThere = "P224" "nobody-there" Warning:
        "nothing takes connections at a provider's address"
        => "an entry that an earlier run left, or an address that is not reachable from here";
    ServerSilent = "P225" "server-silent" Warning:
        "a server of the registry does not answer"
        => "correct the registry's address, or bring the server back: Remora tries all of them";
    NothingFound = "P226" "nothing-found" Warning:
        "there is nothing of Dubbo or SOFARPC here"
        => "check the registry's address and its path (chroot)";
    ListTooLong = "P227" "list-too-long" Warning:
        "a list is longer than clients of ZooKeeper 3.6 and newer take (1 MiB), so they lose their connection over it"
        => "raise jute.maxbuffer of its consumers; behind Remora they are shown a short list";
    OptionalPort = "P228" "optional-port-taken" Warning:
        "a port of a door or protocol that nobody named is taken on this host: it would be left out"
        => "give it another port, or say that it is off";
    SerializationAmbiguous = "P229" "serialization-ambiguous" Warning:
        "requests in a serialization that Remora cannot read name neither group nor version, and the service has several"
        => "use hessian2 or fastjson2 for this service, or leave it out on the consumer side";
    OtherProtocol = "P301" "other-protocol" Note:
        "a protocol that Remora does not speak: published and handed out unchanged, calls go past Remora"
        => "nothing breaks";
    SerializationUnread = "P302" "serialization-unread" Note:
        "requests in a serialization that Remora cannot read: bodies pass as they are, the service is found by its name"
        => "nothing breaks; methods do not show in figures";
    Callback = "P303" "callback" Note:
        "a callback parameter: each such consumer gets connections of its own through both Remoras"
        => "nothing breaks; reckon with more connections at the provider";
    WithinOneProcess = "P304" "within-one-process" Note:
        "an application consumes what it provides: such calls stay within the process (injvm)"
        => "nothing to do: Remora does not see them";
    AlreadyTaken = "P305" "already-taken-over" Note:
        "published by a Remora already"
        => "nothing to do";
    Foreign = "P306" "foreign-entries" Note:
        "entries that are not of Dubbo or SOFARPC: shown as they are"
        => "nothing to do";
    NoProvider = "P307" "no-provider" Note:
        "a service has consumers, or did, but no provider at the moment"
        => "nothing to do";
    LimitUnknown = "P308" "connection-limit-unknown" Note:
        "the registry does not say how many connections it takes from one host; ZooKeeper's default is 60"
        => "compare maxClientCnxns with this number; the four-letter word conf would tell (4lw.commands.whitelist)";
    SwitchedOff = "P309" "switched-off" Note:
        "an operator took a provider out (disabled, offline): it is not called, as before"
        => "nothing to do";
    RemoraRuns = "P310" "remora-runs-here" Note:
        "a Remora runs on this host already: its ports were not looked at"
        => "nothing to do";
    LeftByPolicy = "P311" "left-by-policy" Note:
        "mode or takeover leaves it as it is"
        => "nothing to do";
    ForbiddenElsewhere = "P312" "forbidden-elsewhere" Note:
        "these credentials may not read a place where nothing of Dubbo or SOFARPC stands as far as can be seen"
        => "nothing to do, unless there are services behind it: name credentials that may read it then";
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_tell_the_severity_and_are_used_once() {
        let mut numbers: Vec<&str> = Code::ALL.iter().map(|code| code.number()).collect();
        assert!(numbers.is_sorted(), "in order, so that a free one is easy to find");
        numbers.dedup();
        assert_eq!(numbers.len(), Code::ALL.len());
        for code in Code::ALL {
            let expected = match code.severity() {
                Severity::NotReady => "P1",
                Severity::Warning => "P2",
                Severity::Note => "P3",
            };
            assert!(code.number().starts_with(expected), "{}", code.number());
        }
    }

    #[test]
    fn every_finding_is_explained_in_the_documentation() {
        let page = include_str!("../../docs/preflight.md");
        for code in Code::ALL {
            let heading = format!("### {} {}\n", code.number(), code.slug());
            assert!(page.contains(&heading), "docs/preflight.md lacks {heading:?}");
        }
        let headings = page.lines().filter(|line| line.starts_with("### P")).count();
        assert_eq!(
            headings,
            Code::ALL.len(),
            "docs/preflight.md explains what is not there"
        );
    }
}
