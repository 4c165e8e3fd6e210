"""Sums that sessions on several nodes add to at once: rows that are only appended, with a view that sums them.

An updated sum would be a row that all transactions wait for. A view has the sum's name; inserts, updates and deletes
of the view append too, or delete what it sums. `fold` adds appended rows to one row per key, some at a time.
"""

from collections.abc import Mapping, Sequence

from bytebrew import Connection, Listing

FOLDED_ROWS = 500
TABLE = """create table folded_sums (name text collate "C" primary key);"""
"""The sums with appended rows."""


def fold(conn: Connection) -> Sequence[object]:
    """Folds some appended rows of each sum; an empty sequence if there were none."""
    names = [row["name"] for row in conn.execute("select name from folded_sums order by name")]
    return [n for name in names for n in range(_folded(conn, name))]


def _folded(conn: Connection, name: str) -> int:
    return int(conn.execute(f"select {name}_fold(?)", (FOLDED_ROWS,)).fetchone()[0])


def summed(name: str, keys: Sequence[str], values: Sequence[str]) -> str:
    """The tables of a sum by texts, its view and its fold; rows are appended to `<name>_rows`."""
    columns, by = ", ".join((*keys, *values)), ", ".join(keys)
    typed = ", ".join(
        [f'{key} text collate "C" not null' for key in keys] + [f"{one} bigint not null" for one in values]
    )
    sums = ", ".join(f"sum({one})::bigint as {one}" for one in values)
    added = ", ".join(f"{one} = f.{one} + excluded.{one}" for one in values)
    new, same = _of("new", (*keys, *values)), _same(keys)
    differences = ", ".join((*(f"new.{key}" for key in keys), *(f"new.{one} - old.{one}" for one in values)))
    zero = " and ".join(f"f.{one} = 0" for one in values)
    return f"""
create table {name}_rows ({typed});
create index {name}_rows_key on {name}_rows ({by});
create table {name}_folded ({typed}, primary key ({by}));
create view {name} as select {by}, {sums} from (
  select {columns} from {name}_folded union all select {columns} from {name}_rows) both_kinds group by {by};
create function {name}_change() returns trigger language plpgsql as $$
begin
  if tg_op = 'INSERT' then
    insert into {name}_rows ({columns}) values ({new});
    return new;
  elsif tg_op = 'UPDATE' then
    insert into {name}_rows ({columns}) values ({differences});
    return new;
  end if;
  delete from {name}_rows f where {same};
  delete from {name}_folded f where {same};
  return old;
end $$;
create trigger {name}_change instead of insert or update or delete on {name}
  for each row execute function {name}_change();
create function {name}_fold(most bigint) returns bigint language plpgsql as $$
declare moved bigint;
begin
  with taken as (
    delete from {name}_rows where ctid = any (array(select ctid from {name}_rows limit most)) returning {columns}),
  added as (
    insert into {name}_folded as f ({columns}) select {by}, {", ".join(f"sum({one})" for one in values)}
      from taken group by {by}
      on conflict ({by}) do update set {added} returning 1)
  select count(*) into moved from taken;
  if moved > 0 then
    delete from {name}_folded f where {zero};
  end if;
  return moved;
end $$;
insert into folded_sums values ('{name}');
"""


def row_counts(listing: Listing) -> str:
    """The sums of a listing's totals, of a table without rows, and the triggers that append to them."""
    table, kept, kinds, first = listing.table, listing.kept, listing.kinds, listing.order[0]
    new, old = listing.only.format("new."), listing.only.format("old.")
    changed = " or ".join(f"new.{name} <> old.{name}" for name in (*kinds, first))
    conditions: Mapping[str, tuple[str, str, str]] = {
        "counts_insert": ("insert", new, _add(listing, ("new", 1)) + _add_kept(listing, ("new", 1))),
        "counts_delete": ("delete", old, _add(listing, ("old", -1)) + _add_kept(listing, ("old", -1))),
        "counts_leave": (
            "update",
            f"{old} and not ({new})",
            _add(listing, ("old", -1)) + _add_kept(listing, ("old", -1)),
        ),
        "of_update": (
            f"update of {kept}",
            f"{new} and new.{kept} <> old.{kept}",
            _add_kept(listing, ("old", -1), ("new", 1)),
        ),
        "counts_update": (
            f"update of {', '.join((*kinds, first))}",
            f"{new} and ({changed})",
            _add(listing, ("old", -1), ("new", 1)),
        ),
    }
    triggers = "".join(
        trigger(f"{table}_{name}", event, table, when, body) for name, (event, when, body) in conditions.items()
    )
    return (
        f"{summed(f'{table}_counts', ('unit', *kinds), ('rows',))}{summed(f'{table}_of', (kept,), ('rows',))}{triggers}"
    )


def trigger(name: str, event: str, table: str, when: str, body: str) -> str:
    """A trigger that runs statements for each changed row for which the condition is true."""
    return f"""create function {name}() returns trigger language plpgsql as $$
begin
{body.strip()}
  return null;
end $$;
create trigger {name} after {event} on {table} for each row when ({when}) execute function {name}();
"""


def _add(listing: Listing, *changes: tuple[str, int]) -> str:
    columns = ", ".join(("unit", *listing.kinds))
    rows = ",\n    ".join(
        f"({unit}, {_of(row, listing.kinds)}, {by})" for row, by in changes for unit in (_unit(listing, row), "''")
    )
    return f"  insert into {listing.table}_counts_rows ({columns}, rows) values\n    {rows};\n"


def _add_kept(listing: Listing, *changes: tuple[str, int]) -> str:
    rows = ", ".join(f"({row}.{listing.kept}, {by})" for row, by in changes)
    return f"  insert into {listing.table}_of_rows ({listing.kept}, rows) values {rows};\n"


def _unit(listing: Listing, row: str) -> str:
    column = f"{row}.{listing.order[0]}"
    return f"substr({column}, 1, 10)" if listing.unit == "day" else f"lpad(({column} / 1024)::text, 12, '0')"


def _of(row: str, columns: Sequence[str]) -> str:
    return ", ".join(f"{row}.{name}" for name in columns)


def _same(keys: Sequence[str]) -> str:
    return " and ".join(f"f.{key} = old.{key}" for key in keys)
