from mq9.mailboxes.mailbox import Mailbox

class Numbers:
    def get(self, number: int) -> Mailbox | None: ...
