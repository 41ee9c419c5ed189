"""Works in a running Tryton as its users do, by its own client library, over the network.

`python operate_tryton.py http://127.0.0.1:8000/DATABASE PASSWORD`, in an environment of its own that has `proteus`.
Reads one JSON list a line, `["pay", "RE2025-0002", "100", "2026-02-01"]`: what to do, and with what. Answers each
with a line: what came of it, as JSON. Ends when its input does.
"""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from proteus import Model
from proteus.config import set_xmlrpc_session


def find(model: str, *domain: Any) -> Any:
    [record] = Model.get(model).find(list(domain))
    return record


def pay(number: str, amount: str, on: str) -> str:
    """Pay a part of a document; what is still to be paid."""
    invoice = find("account.invoice", ("number", "=", number))
    wizard = invoice.click("pay")
    wizard.form.amount, wizard.form.date = Decimal(amount), datetime.date.fromisoformat(on)
    wizard.form.payment_method = find("account.invoice.payment.method")
    wizard.execute("choice")
    if wizard.state != "end":
        wizard.form.type = "partial"
        wizard.execute("pay")
    invoice.reload()
    return str(invoice.amount_to_pay)


def draft(party: str, on: str, price: str) -> int:
    """A draft invoice; its id."""
    invoice = Model.get("account.invoice")(type="out")
    invoice.party = find("party.party", ("name", "=", party))
    invoice.invoice_date = datetime.date.fromisoformat(on)
    line = invoice.lines.new()
    line.account = find("account.account", ("code", "=", "4.1.1"))
    line.quantity, line.unit_price, line.description = 1.0, Decimal(price), "By hand"
    invoice.save()
    return invoice.id


def delete_draft(invoice_id: int) -> None:
    Model.get("account.invoice")(invoice_id).delete()


def rename(party: str, name: str) -> None:
    record = find("party.party", ("name", "=", party))
    record.name = name
    record.save()


def mail(party: str, address: str) -> None:
    """Give a party a mail address, which leaves the party itself as it was."""
    contact = Model.get("party.contact_mechanism")(type="email", value=address)
    contact.party = find("party.party", ("name", "=", party))
    contact.save()


def revoke_key(key: str) -> None:
    find("res.user.application", ("key", "=", key)).click("cancel")


def new_key(login: str) -> str:
    application = Model.get("res.user.application")(application="rest")
    application.user = find("res.user", ("login", "=", login))
    application.save()
    return application.key


def hide_field(model: str, field: str) -> None:
    """Let nobody but administrators read a field."""
    access = Model.get("ir.model.field.access")(
        model=model, field=field, perm_read=False, perm_write=False, perm_create=False, perm_delete=False
    )
    access.active = True
    access.save()


COMMANDS: dict[str, Callable[..., Any]] = {
    "pay": pay,
    "draft": draft,
    "delete_draft": delete_draft,
    "rename": rename,
    "mail": mail,
    "revoke_key": revoke_key,
    "new_key": new_key,
    "hide_field": hide_field,
}


def main() -> None:
    url, password = sys.argv[1:]
    with set_xmlrpc_session(f"{url}/rpc/", "admin", password):
        for line in sys.stdin:
            command, *arguments = json.loads(line)
            print(json.dumps(COMMANDS[command](*arguments)), flush=True)


if __name__ == "__main__":
    main()
