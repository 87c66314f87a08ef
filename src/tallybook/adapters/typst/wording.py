"""The words of documents, in every language that they are written in; English for all others."""

import msgspec


class Labels(msgspec.Struct, frozen=True, kw_only=True):
    """The words of one language; `{0}` and `{1}` stand for what is filled in."""

    invoice: str
    draft_invoice: str
    credit_note: str
    bill_to: str
    honorific: str
    number: str
    credit_note_number: str
    date: str
    payable_by: str
    service_period: str
    customer: str
    your_reference: str
    replaces: str
    corrects: str
    reason: str
    tax_id: str
    description: str
    quantity: str
    unit_price: str
    amount: str
    subtotal: str
    discount: str
    tax: str
    rate: str
    base: str
    tax_total: str
    tax_included: str
    no_tax: str
    included: str
    net: str
    total: str
    credit_used: str
    prepaid_used: str
    payable: str
    in_your_favour: str
    carried: str
    taken_back: str
    credit_total: str
    set_off: str
    credited: str
    refunded: str
    payment: str
    bank: str
    account: str
    payment_reference: str
    adjustment: str
    adjustment_for: str
    subscription: str
    none: str
    used_so_far: str
    billed_before: str
    more_steps: str
    chart_title: str
    chart_sizes: dict[str, str]
    page: str
    draft: str
    void: str
    paid: str
    proof: str
    reasons: dict[str, str]


ENGLISH = Labels(
    invoice="Invoice",
    draft_invoice="Draft invoice",
    credit_note="Credit note",
    bill_to="Bill to",
    honorific="{0}",
    number="Invoice number",
    credit_note_number="Credit note number",
    date="Date",
    payable_by="Payable by",
    service_period="Service period",
    customer="Customer",
    your_reference="Your reference",
    replaces="Replaces invoice",
    corrects="Corrects invoice",
    reason="Reason",
    tax_id="Tax\u00a0ID\u00a0{0}",
    description="Description",
    quantity="Quantity",
    unit_price="Unit price",
    amount="Amount",
    subtotal="Subtotal",
    discount="Discount: {0}",
    tax="Tax",
    rate="Rate",
    base="Net amount",
    tax_total="Tax",
    tax_included="Tax contained",
    no_tax="No tax is charged.",
    included="included in prices",
    net="Net total",
    total="Total",
    credit_used="Credit {0}",
    prepaid_used="Prepaid credit: {0}",
    payable="Total due",
    in_your_favour="In your favour",
    carried="{0} is credited to your account and used on your next invoice.",
    taken_back="Earlier discounts taken back",
    credit_total="Total credited",
    set_off="Taken off {0}",
    credited="Credited to your account",
    refunded="To be refunded",
    payment="Payment",
    bank="Bank",
    account="Account holder",
    payment_reference="Payment reference",
    adjustment="Adjustment",
    adjustment_for="Adjustment for {0}",
    subscription="Subscription {0}",
    none="(none)",
    used_so_far="Used so far",
    billed_before="Billed on earlier invoices",
    more_steps="and {0} more steps",
    chart_title="{0} per {1}",
    chart_sizes={"MINUTE": "minute", "HOUR": "hour", "DAY": "day", "MONTH": "month"},
    page="Page {0} of {1}",
    draft="DRAFT",
    void="VOID",
    paid="PAID",
    proof="Each line lists its events: tallybook invoice explain {0}",
    reasons={
        "Z": "Zero rated",
        "E": "Exempt from tax",
        "AE": "Reverse charge: the customer owes the tax",
        "K": "Intra-community supply, exempt from tax",
        "G": "Export, exempt from tax",
        "O": "Not subject to tax",
    },
)

GERMAN = Labels(
    invoice="Rechnung",
    draft_invoice="Rechnungsentwurf",
    credit_note="Rechnungskorrektur",
    bill_to="Rechnungsempfänger",
    honorific="{0}",
    number="Rechnungsnummer",
    credit_note_number="Korrekturnummer",
    date="Datum",
    payable_by="Zahlbar bis",
    service_period="Leistungszeitraum",
    customer="Kunde",
    your_reference="Ihr Zeichen",
    replaces="Ersetzt Rechnung",
    corrects="Zu Rechnung",
    reason="Grund",
    tax_id="USt-IdNr.\u00a0{0}",
    description="Beschreibung",
    quantity="Menge",
    unit_price="Einzelpreis",
    amount="Betrag",
    subtotal="Zwischensumme",
    discount="Rabatt: {0}",
    tax="Steuer",
    rate="Satz",
    base="Nettobetrag",
    tax_total="Steuer",
    tax_included="Enthaltene Steuer",
    no_tax="Es wird keine Steuer berechnet.",
    included="in den Preisen enthalten",
    net="Summe netto",
    total="Gesamtbetrag",
    credit_used="Gutschrift {0}",
    prepaid_used="Guthaben: {0}",
    payable="Zahlbetrag",
    in_your_favour="Zu Ihren Gunsten",
    carried="{0} werden Ihrem Konto gutgeschrieben und mit der nächsten Rechnung verrechnet.",
    taken_back="Zurückgenommene Rabatte",
    credit_total="Gutschriftsbetrag",
    set_off="Verrechnet mit {0}",
    credited="Ihrem Konto gutgeschrieben",
    refunded="Wird erstattet",
    payment="Zahlung",
    bank="Bank",
    account="Kontoinhaber",
    payment_reference="Verwendungszweck",
    adjustment="Korrektur",
    adjustment_for="Korrektur für {0}",
    subscription="Abonnement {0}",
    none="(ohne)",
    used_so_far="Bisher verbraucht",
    billed_before="Bereits berechnet",
    more_steps="und {0} weitere Schritte",
    chart_title="{0} je {1}",
    chart_sizes={"MINUTE": "Minute", "HOUR": "Stunde", "DAY": "Tag", "MONTH": "Monat"},
    page="Seite {0} von {1}",
    draft="ENTWURF",
    void="STORNIERT",
    paid="BEZAHLT",
    proof="Die Ereignisse jeder Zeile: tallybook invoice explain {0}",
    reasons={
        "Z": "Steuersatz null",
        "E": "Steuerfrei",
        "AE": "Steuerschuldnerschaft des Leistungsempfängers",
        "K": "Steuerfreie innergemeinschaftliche Lieferung oder Leistung",
        "G": "Steuerfreie Ausfuhr",
        "O": "Nicht steuerbar",
    },
)

FRENCH = Labels(
    invoice="Facture",
    draft_invoice="Projet de facture",
    credit_note="Avoir",
    bill_to="Facturé à",
    honorific="{0}",
    number="Numéro de facture",
    credit_note_number="Numéro d’avoir",
    date="Date",
    payable_by="À payer avant le",
    service_period="Période de service",
    customer="Client",
    your_reference="Votre référence",
    replaces="Remplace la facture",
    corrects="Rectifie la facture",
    reason="Motif",
    tax_id="N°\u00a0TVA\u00a0{0}",
    description="Désignation",
    quantity="Quantité",
    unit_price="Prix unitaire",
    amount="Montant",
    subtotal="Sous-total",
    discount="Remise : {0}",
    tax="Taxe",
    rate="Taux",
    base="Montant HT",
    tax_total="Taxes",
    tax_included="Taxes comprises",
    no_tax="Aucune taxe n’est facturée.",
    included="comprise dans les prix",
    net="Total HT",
    total="Total TTC",
    credit_used="Avoir {0}",
    prepaid_used="Crédit prépayé : {0}",
    payable="Net à payer",
    in_your_favour="En votre faveur",
    carried="{0} sont portés au crédit de votre compte et déduits de la prochaine facture.",
    taken_back="Remises antérieures reprises",
    credit_total="Total de l’avoir",
    set_off="Imputé sur {0}",
    credited="Porté au crédit de votre compte",
    refunded="À rembourser",
    payment="Règlement",
    bank="Banque",
    account="Titulaire du compte",
    payment_reference="Référence de paiement",
    adjustment="Régularisation",
    adjustment_for="Régularisation pour {0}",
    subscription="Abonnement {0}",
    none="(aucune)",
    used_so_far="Consommé à ce jour",
    billed_before="Déjà facturé",
    more_steps="et {0} autres étapes",
    chart_title="{0} par {1}",
    chart_sizes={"MINUTE": "minute", "HOUR": "heure", "DAY": "jour", "MONTH": "mois"},
    page="Page {0} sur {1}",
    draft="PROJET",
    void="ANNULÉE",
    paid="PAYÉE",
    proof="Les événements de chaque ligne : tallybook invoice explain {0}",
    reasons={
        "Z": "Taux zéro",
        "E": "Exonéré de TVA",
        "AE": "Autoliquidation",
        "K": "Opération intracommunautaire exonérée de TVA",
        "G": "Exportation exonérée de TVA",
        "O": "Non soumis à la TVA",
    },
)

JAPANESE = Labels(
    invoice="請求書",
    draft_invoice="請求書(下書き)",
    credit_note="適格返還請求書",
    bill_to="ご請求先",
    honorific="{0} 御中",
    number="請求書番号",
    credit_note_number="返還請求書番号",
    date="発行日",
    payable_by="お支払期限",
    service_period="ご利用期間",
    customer="お客様番号",
    your_reference="貴社参照番号",
    replaces="差替元の請求書",
    corrects="対象の請求書",
    reason="理由",
    tax_id="登録番号\u00a0{0}",
    description="品目",
    quantity="数量",
    unit_price="単価",
    amount="金額",
    subtotal="小計",
    discount="値引き {0}",
    tax="税区分",
    rate="税率",
    base="税抜金額",
    tax_total="消費税等",
    tax_included="内消費税等",
    no_tax="消費税はかかりません。",
    included="価格に含まれます",
    net="税抜合計",
    total="合計",
    credit_used="クレジット充当 {0}",
    prepaid_used="前払残高充当 {0}",
    payable="ご請求金額",
    in_your_favour="お客様への返還額",
    carried="{0} をお客様の残高に加算し、次回の請求に充当します。",
    taken_back="過去の値引きの戻し",
    credit_total="返還合計",
    set_off="{0} に充当",
    credited="お客様の残高に加算",
    refunded="ご返金額",
    payment="お支払い",
    bank="お振込先",
    account="口座名義",
    payment_reference="振込時の参照番号",
    adjustment="調整",
    adjustment_for="{0} 分の調整",
    subscription="契約 {0}",
    none="(なし)",
    used_so_far="これまでの使用量",
    billed_before="請求済み",
    more_steps="ほか {0} 件",
    chart_title="{0} ({1}別)",
    chart_sizes={"MINUTE": "分", "HOUR": "時間", "DAY": "日", "MONTH": "月"},
    page="{0} / {1} ページ",
    draft="下書き",
    void="無効",
    paid="支払済",
    proof="各行の明細: tallybook invoice explain {0}",
    reasons={
        "Z": "税率ゼロ",
        "E": "非課税",
        "AE": "リバースチャージ(お客様による納税)",
        "K": "EU域内取引(免税)",
        "G": "輸出免税",
        "O": "不課税",
    },
)

LANGUAGES = {"en": ENGLISH, "de": GERMAN, "fr": FRENCH, "ja": JAPANESE}


def labels(language: str) -> Labels:
    """Return the words of a language, such as 'de'; English where there are none."""
    return LANGUAGES.get(language, ENGLISH)
