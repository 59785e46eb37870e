//! Parts of an application that begin and end with its server.

use std::fmt;
use std::pin::Pin;

use pitaya_proto::error::Error;

use crate::App;
use crate::app::codec::Codec;

/// Something that begins before clients and other servers come, and ends after they are gone: a
/// connection to a database, say. Each step is optional.
///
/// ```
/// use pitaya_core::{App, Error, Lifecycle};
///
/// struct Scores;
///
/// impl Lifecycle for Scores {
///     async fn init(&self) -> Result<(), Error> {
///         println!("reads the scores");
///         Ok(())
///     }
///
///     async fn shutdown(&self) {
///         println!("writes the scores");
///     }
/// }
///
/// let app = App::new(()).component("scores", Scores);
/// ```
pub trait Lifecycle: Send + Sync + 'static {
    /// Begins.
    ///
    /// # Errors
    ///
    /// What keeps the server from starting; all that has begun before is shut down then.
    fn init(&self) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }

    /// All others have begun too.
    ///
    /// # Errors
    ///
    /// As [`init`](Self::init).
    fn after_init(&self) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }

    /// The end is near; all others are still there.
    fn before_shutdown(&self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Ends.
    fn shutdown(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

impl<S: Send + Sync + 'static, C: Codec> App<S, C> {
    /// Adds what begins before clients come, and ends after they are gone, in the order of
    /// addition; it ends in the reverse one.
    pub fn component(mut self, name: &str, component: impl Lifecycle) -> Self {
        self.hooks.components.push(Part::new(self.name(name), component));
        self
    }

    /// Adds what belongs to remotes: it begins after all [components](Self::component), and ends
    /// after them.
    pub fn remote_component(mut self, name: &str, component: impl Lifecycle) -> Self {
        self.hooks.remotes.push(Part::new(self.name(name), component));
        self
    }
}

/// A [`Lifecycle`] with its name.
pub struct Part {
    /// For logs and errors.
    pub name: String,
    steps: Box<dyn Steps>,
}

/// A step that is being taken.
pub type Taken<'p> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'p>>;

/// One step of a [`Lifecycle`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// [`Lifecycle::init`]
    Init,
    /// [`Lifecycle::after_init`]
    AfterInit,
    /// [`Lifecycle::before_shutdown`]
    BeforeShutdown,
    /// [`Lifecycle::shutdown`]
    Shutdown,
}

impl Part {
    /// A part of that name.
    pub fn new(name: impl Into<String>, part: impl Lifecycle) -> Self {
        Self { name: name.into(), steps: Box::new(part) }
    }

    /// Takes a step.
    pub fn take(&self, step: Step) -> Taken<'_> {
        self.steps.take(step)
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Part").field(&self.name).finish()
    }
}

/// [`Lifecycle`] for any part alike.
trait Steps: Send + Sync {
    fn take(&self, step: Step) -> Taken<'_>;
}

impl<L: Lifecycle> Steps for L {
    fn take(&self, step: Step) -> Taken<'_> {
        match step {
            Step::Init => Box::pin(self.init()),
            Step::AfterInit => Box::pin(self.after_init()),
            Step::BeforeShutdown => Box::pin(async {
                self.before_shutdown().await;
                Ok(())
            }),
            Step::Shutdown => Box::pin(async {
                self.shutdown().await;
                Ok(())
            }),
        }
    }
}
