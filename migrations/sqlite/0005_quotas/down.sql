ALTER TABLE loose_objects DROP COLUMN reserved_bytes;
DROP TABLE quota_books;
