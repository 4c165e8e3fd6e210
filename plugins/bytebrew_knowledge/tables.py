"""Migrations: bases, links to agents, files, and indexes with their chunks."""

from bytebrew import Migration

MIGRATIONS = (
    Migration(
        1,
        """
create table knowledge_bases (
  id text primary key,
  name text not null unique,
  description text not null,
  embedding_model text,
  created_at text not null,
  updated_at text not null
) strict, without rowid;
create index knowledge_bases_model on knowledge_bases (embedding_model) where embedding_model is not null;

create table knowledge_links (
  agent_id text not null references agents (id) on delete cascade,
  base_id text not null references knowledge_bases (id),
  primary key (agent_id, base_id)
) strict, without rowid;
create index knowledge_links_base on knowledge_links (base_id);

create table knowledge_files (
  id text primary key,
  base_id text not null references knowledge_bases (id),
  name text not null,
  type text not null,
  size integer not null,
  digest text not null,
  blob text not null,
  metadata text not null,
  revision integer not null,
  status text not null,
  message text,
  created_at text not null,
  indexed_at text,
  unique (base_id, name)
) strict, without rowid;
create index knowledge_files_waiting on knowledge_files (id) where status = 'indexing';

create table knowledge_indexes (
  id integer primary key,
  file_id text not null,
  state text not null,
  revision integer not null,
  reader integer not null,
  model text not null,
  signature text not null,
  done integer not null,
  total integer not null
) strict;
create index knowledge_indexes_file on knowledge_indexes (file_id);
create index knowledge_indexes_dead on knowledge_indexes (id) where state = 'dead';

create table knowledge_chunks (
  id integer primary key,
  index_id integer not null,
  position integer not null,
  heading text not null,
  text text not null,
  vector blob,
  unique (index_id, position)
) strict;

create virtual table knowledge_words using fts5 (
  heading, text, content = 'knowledge_chunks', content_rowid = 'id', tokenize = "porter unicode61 remove_diacritics 2"
);
create trigger knowledge_chunks_in after insert on knowledge_chunks begin
  insert into knowledge_words (rowid, heading, text) values (new.id, new.heading, new.text);
end;
create trigger knowledge_chunks_out after delete on knowledge_chunks begin
  insert into knowledge_words (knowledge_words, rowid, heading, text)
  values ('delete', old.id, old.heading, old.text);
end;
""",
    ),
    Migration(
        2,
        """
alter table knowledge_bases add column folder text;
alter table knowledge_files add column seen text;
create index knowledge_files_seen on knowledge_files (base_id) where seen is not null;

alter table knowledge_chunks add column base text not null default '';
update knowledge_chunks set base = coalesce(
  (select replace(f.base_id, '-', '') from knowledge_indexes i join knowledge_files f on f.id = i.file_id
    where i.id = knowledge_chunks.index_id), '');
drop trigger knowledge_chunks_in;
drop trigger knowledge_chunks_out;
drop table knowledge_words;
create virtual table knowledge_words using fts5 (
  base, heading, text, content = 'knowledge_chunks', content_rowid = 'id',
  tokenize = "porter unicode61 remove_diacritics 2"
);
insert into knowledge_words (knowledge_words) values ('rebuild');
create trigger knowledge_chunks_in after insert on knowledge_chunks begin
  insert into knowledge_words (rowid, base, heading, text) values (new.id, new.base, new.heading, new.text);
end;
create trigger knowledge_chunks_out after delete on knowledge_chunks begin
  insert into knowledge_words (knowledge_words, rowid, base, heading, text)
  values ('delete', old.id, old.base, old.heading, old.text);
end;
""",
    ),
    Migration(
        3,
        """
drop index knowledge_files_waiting;
create index knowledge_files_waiting on knowledge_files (base_id, id) where status = 'indexing';
""",
    ),
)
