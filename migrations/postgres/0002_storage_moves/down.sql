DROP TABLE containers;
DROP TABLE storage_moves;
ALTER TABLE loose_objects DROP COLUMN is_swept;
ALTER TABLE loose_objects DROP COLUMN is_kept;
