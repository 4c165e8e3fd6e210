"""Functions in PostgreSQL under the names and with the results that SQLite's have, for statements that both run."""

FUNCTIONS = (
    # a day number as SQLite's: of a time in RFC 3339 with the zone Z, to the millisecond
    """create or replace function julianday(moment text) returns double precision
  language sql immutable parallel safe as $$
  select (round(extract(epoch from (rtrim(moment, 'Z') || 'Z')::timestamptz) * 1000) + 210866760000000)
    ::double precision / 86400000.0
$$""",
    """create or replace function json_each(list text, out key text, out value text) returns setof record
  language plpgsql immutable parallel safe as $$
begin
  if json_typeof(list::json) = 'array' then
    return query select (n - 1)::text, e from json_array_elements_text(list::json) with ordinality as each(e, n);
  else
    return query select k, e from json_each_text(list::json) as each(k, e);
  end if;
end $$""",
    """create or replace function json_extract(document text, path text) returns text
  language sql immutable parallel safe as $$
  select jsonb_path_query_first(document::jsonb, path::jsonpath) #>> '{}'
$$""",
    """create or replace function substr(value text, first bigint, size bigint) returns text
  language sql immutable parallel safe as $$ select substr(value, first::integer, size::integer) $$""",
    """create or replace function substr(value text, first bigint) returns text
  language sql immutable parallel safe as $$ select substr(value, first::integer) $$""",
    """create or replace function round(value double precision, digits integer) returns double precision
  language sql immutable parallel safe as $$ select round(value::numeric, digits)::double precision $$""",
    """create or replace function integer_of(value double precision) returns bigint
  language sql immutable parallel safe as $$ select trunc(value)::bigint $$""",
    """create or replace function integer_of(value numeric) returns bigint
  language sql immutable parallel safe as $$ select trunc(value)::bigint $$""",
    """create or replace function integer_of(value bigint) returns bigint
  language sql immutable parallel safe as $$ select value $$""",
    """create or replace function integer_of(value boolean) returns bigint
  language sql immutable parallel safe as $$ select value::integer::bigint $$""",
    """create or replace function integer_of(value text) returns bigint
  language sql immutable parallel safe as $$
  select coalesce(substring(value from '^\\s*([+-]?[0-9]+)'), '0')::bigint
$$""",
)
"""In the schema of the tables; created again at each migration."""
