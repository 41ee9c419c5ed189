"""Maps Tryton's products. Pure."""

from __future__ import annotations

from datastatus.domain.records import Item, ItemStatus, ItemTerms, ItemType, Reference
from datastatus.integrations.tryton.raw import Raw


def map_item(raw: Raw) -> Item:
    """Accounts and taxes are those of the product's accounting category.

    Without Tryton's module for sales, or for purchases, nothing says that a product is not for sale, or purchase.
    The list price is the sales price; what suppliers ask, Tryton keeps for each supplier.
    """
    template = raw.required_part("template")
    category = template.part("account_category")
    sold = template.flag("salable") if template.has("salable") else True
    bought = template.flag("purchasable") if template.has("purchasable") else True
    is_active = raw.flag("active") and template.flag("active")
    return Item(
        id=raw.record_id,
        source_modified_date=raw.modified(),
        code=raw.text("code"),
        name=template.required_text("name"),
        type=_item_type(template),
        item_status=ItemStatus.ACTIVE if is_active else ItemStatus.ARCHIVED,
        is_bill_item=bought,
        is_invoice_item=sold,
        bill_item=ItemTerms(
            description=raw.text("description"),
            account_ref=category.reference("account_expense") if category else None,
            tax_rate_ref=_first(category, "supplier_taxes"),
        )
        if bought
        else None,
        invoice_item=ItemTerms(
            description=raw.text("description"),
            unit_price=template.decimal("list_price") if template.text("list_price") else None,
            account_ref=category.reference("account_revenue") if category else None,
            tax_rate_ref=_first(category, "customer_taxes"),
        )
        if sold
        else None,
    )


def _item_type(template: Raw) -> ItemType:
    match template.required_text("type"):
        case "service":
            return ItemType.SERVICE
        case "goods" if not template.flag("consumable"):
            return ItemType.INVENTORY
        case "goods" | "assets":
            return ItemType.NON_INVENTORY
        case _:
            return ItemType.UNKNOWN


def _first(category: Raw | None, name: str) -> Reference | None:
    taxes = category.parts(name) if category else []
    return taxes[0].as_reference() if taxes else None
