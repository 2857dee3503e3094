//! Logs: to the journal with their fields under systemd, else to stderr.

use std::{fmt, io::IsTerminal};

use tracing::{
    Event, Subscriber,
    field::{Field, Value, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    EnvFilter, Layer,
    layer::{Context, SubscriberExt},
    registry::Registry,
    util::SubscriberInitExt,
};

/// Crates below us whose details help nobody who looks for ours: each frame of each connection.
const CHATTY: [&str; 4] = ["h2", "hyper", "hyper_util", "tower"];

/// A level alone is meant for the agent; directives are taken as they are.
fn directives(level: &str) -> String {
    if level.parse::<tracing::Level>().is_err() {
        return level.to_owned();
    }
    let quiet = CHATTY.map(|name| format!("{name}=warn")).join(",");
    format!("{level},{quiet}")
}

/// Start logging at `level` (tracing's directives, checked by the configuration). Once for a process.
pub fn start(level: &str) {
    let level = &directives(level);
    // JOURNAL_STREAM is set by systemd where stderr is the journal's (systemd.exec(5)).
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match journal {
        Some(journal) => Box::new(Worded(journal).with_filter(EnvFilter::new(level))),
        None => Box::new(
            tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
                .with_target(false)
                .with_filter(EnvFilter::new(level)),
        ),
    };
    // A second subscriber would be a mistake of ours; the first one stays.
    if let Err(error) = tracing_subscriber::registry().with(layer).try_init() {
        tracing::debug!(%error, "logging was started already");
    }
}

/// Has the message say what the fields have: the message is all that `journalctl` shows unless it is asked for more.
struct Worded<L>(L);

/// As many fields as an event can have.
const MOST_FIELDS: usize = 32;

impl<S: Subscriber, L: Layer<S>> Layer<S> for Worded<L> {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.0.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.0.on_record(id, values, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let (metadata, mut words) = (event.metadata(), Words::default());
        event.record(&mut words);
        words.tell();
        let fields = metadata.fields();
        let Some(first) = fields.iter().next() else { return self.0.on_event(event, context) };
        let mut values: [(&Field, Option<&dyn Value>); MOST_FIELDS] = [(&first, None); MOST_FIELDS];
        for (slot, (field, text)) in values.iter_mut().zip(&words.0) {
            *slot = (field, Some(text));
        }
        self.0.on_event(&Event::new(metadata, &fields.value_set(&values)), context);
    }
}

/// The fields of an event, in words.
#[derive(Default)]
struct Words(Vec<(Field, String)>);

impl Words {
    /// Append all other fields to the message, as `name=value`.
    fn tell(&mut self) {
        let mut told = String::new();
        // Those of `log` say where in a crate it was.
        let others = self.0.iter().filter(|(field, text)| {
            field.name() != "message" && !field.name().starts_with("log.") && !text.is_empty()
        });
        for (field, text) in others {
            let quoted = text.contains(|c: char| c.is_whitespace() || c == '"');
            let text = if quoted { format!("{text:?}") } else { text.clone() };
            told.push_str(&format!(" {field}={text}"));
        }
        if let Some((_, message)) = self.0.iter_mut().find(|(field, _)| field.name() == "message") {
            message.push_str(&told);
        }
    }
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.clone(), value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push((field.clone(), format!("{value:?}")));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    type Named = Vec<(String, String)>;

    /// Keeps the events' fields.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<Named>>>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut words = Words::default();
            event.record(&mut words);
            let named = words.0.into_iter().map(|(field, text)| (field.name().to_owned(), text));
            self.0.lock().unwrap().push(named.collect());
        }
    }

    #[test]
    fn a_message_says_what_its_fields_have_and_the_fields_stay() {
        let kept = Kept::default();
        let subscriber = tracing_subscriber::registry().with(Worded(kept.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let error = "no \"x\"\nhere";
            tracing::info!(node = %"host1", step = "", error, count = 3, took = ?[1, 2], "it {}", "is so");
            tracing::info!("alone");
            tracing::info!(only = 1);
        });
        let kept = kept.0.lock().unwrap();
        let named = |event: usize| kept[event].iter().map(|(name, text)| (name.as_str(), text.as_str()));
        let message = r#"it is so node=host1 error="no \"x\"\nhere" count=3 took="[1, 2]""#;
        let mut first: Vec<_> = named(0).collect();
        first.sort_unstable();
        let others = [("count", "3"), ("error", "no \"x\"\nhere"), ("message", message), ("node", "host1")];
        assert_eq!(first[..4], others);
        assert_eq!(first[4..], [("step", ""), ("took", "[1, 2]")]);
        assert_eq!(named(1).collect::<Vec<_>>(), [("message", "alone")]);
        assert_eq!(named(2).collect::<Vec<_>>(), [("only", "1")]);
    }

    #[test]
    fn a_level_quietens_the_transport_and_directives_stay_as_they_are() {
        assert_eq!(directives("debug"), "debug,h2=warn,hyper=warn,hyper_util=warn,tower=warn");
        assert!(EnvFilter::try_new(directives("TRACE")).is_ok());
        for own in ["info,h2=trace", "ovagent::gossip=debug"] {
            assert_eq!(directives(own), own);
        }
    }
}
