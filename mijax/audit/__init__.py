"""Audit of a model of tables: does it give away one missing field of a person?

```python
report = mijax.audit.table(
    model, frame, sensitive=["smokes"], target="risk", members="trained"
)
print(report.verdicts)
report.write("runs/audit")
```
`mijax-audit --help` is a shell around it.
"""

from mijax.audit.auditing import FieldReport, Report, table
from mijax.audit.rows import read
from mijax.audit.verdicts import Attack, Side

__all__ = ["Attack", "FieldReport", "Report", "Side", "read", "table"]
