"""SQL with functions of JSON, which PostgreSQL gets by migrations, and full-text search (FTS5) of SQLite alone."""


def elements(json: str) -> str:
    """A select of the elements of a JSON list, for `in (...)`."""
    return f"select value from json_each({json})"  # noqa: S608


def numbers(json: str) -> str:
    """A select of the integers of a JSON list, for `in (...)`."""
    return f"select cast(value as integer) from json_each({json})"  # noqa: S608


def json_list(select: str) -> str:
    """The column `name` of a select as a JSON list."""
    return f"(select json_group_array(name) from ({select}) listed)"  # noqa: S608


SCOPE = """knowledge_indexes i join knowledge_files f on f.id = i.file_id
  where i.state = 'live' and f.base_id in (select value from json_each(:bases))
  and (:file in ('', f.name) or f.id = lower(:file))
  and not exists (select 1 from json_each(:metadata) w where not exists (
    select 1 from json_each(f.metadata) h where h.key = w.key and h.value = w.value))"""
"""The searched indexes: part of a statement with the parameters `bases`, `file` and `metadata`."""
ALONE = """select 1 where not exists (select 1 from knowledge_indexes where state = 'dead')
  and not exists (select 1 from knowledge_bases where id not in (select value from json_each(:bases)))"""
"""Whether all chunks are those of the searched bases."""
LIVE = f"""select c.id from knowledge_chunks c where c.id in ({numbers(":ids")})
  and exists (select 1 from {SCOPE} and i.id = c.index_id)"""  # noqa: S608
"""Those of some chunks that are searched."""
RANKED = """with terms as materialized (
    select json_extract(value, '$[0]') as match, json_extract(value, '$[1]') as weight,
      json_extract(value, '$[2]') as leading from json_each(:matches)),
  found as materialized (
    select w.rowid as id, t.weight, t.leading, bm25(knowledge_words, 0.0, 1.5, 1.0) as score
    from terms t cross join knowledge_words w where w.knowledge_words match t.match)
  select sum(weight * score) - sum(leading * score) * sum((not leading) * weight) as score, id
  from found group by id order by score limit :limit"""
"""The chunks with a leading word, best first. Other words are matched with any leading one, whose scores are thus
in theirs."""
BEST = """select bm25(knowledge_words, 0.0, 1.5, 1.0) as score, rowid as id from knowledge_words
  where knowledge_words match :match order by score limit :limit"""
"""The best chunks by the words of one query, which takes half the time for as many scores."""
MARKED = """select w.rowid as id, highlight(knowledge_words, 1, char(2), char(3)) as heading,
  highlight(knowledge_words, 2, char(2), char(3)) as text from json_each(:ids) p
  cross join knowledge_words w on w.rowid = p.value where w.knowledge_words match :words"""
"""Chunks whose words that match are between the characters 2 and 3."""
OTHERS = f"""select w.rowid as id from knowledge_words w join knowledge_chunks c on c.id = w.rowid
  where w.knowledge_words match :words and exists (select 1 from {SCOPE} and i.id = c.index_id)
  limit :limit"""  # noqa: S608
COUNT = "select count(*) from knowledge_words where knowledge_words match ?"
PERSONS = """select id, blob from knowledge_files
  where metadata <> '{{}}' and json_extract(metadata, '$.user_sub') in ({})"""
"""The files whose metadata names a person as `user_sub`."""
ERASE = "insert into knowledge_words (knowledge_words) values ('optimize')"
"""Removes the words of deleted chunks from the index, which keeps them until its parts are merged."""
