-- Run once, when PostgreSQL makes its data folder: the database of RisingWave's catalogue.
create database risingwave;
