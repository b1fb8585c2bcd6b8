//! A disk without room, as a database sees it.

/// A statement for SQLite and one for PostgreSQL, after which the database takes no large row: SQLite may not grow, and in
/// PostgreSQL triggers refuse rows of more than 8 KiB with the error of a full disk.
pub const FULL_DISK: (&str, &str) = (
    "PRAGMA max_page_count = 1",
    "DO $do$ \
     DECLARE of_table text; \
     BEGIN \
       CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ \
       BEGIN \
         IF pg_column_size(NEW) > 8192 THEN RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full'; END IF; \
         RETURN NEW; \
       END $$; \
       FOR of_table IN SELECT tablename FROM pg_tables WHERE schemaname = current_schema LOOP \
         EXECUTE format('CREATE TRIGGER no_room BEFORE INSERT OR UPDATE ON %I FOR EACH ROW \
                         EXECUTE FUNCTION no_room()', of_table); \
       END LOOP; \
     END $do$",
);

/// The statements after which there is room again.
pub const ROOMY_DISK: (&str, &str) = ("PRAGMA max_page_count = 1000000", "DROP FUNCTION no_room CASCADE");
